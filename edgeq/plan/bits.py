"""The requested number formats, as the user writes them: ``w8a8``, ``w4a16``, ``w4`` (weight-only)."""

import re
from dataclasses import dataclass

from edgeq.errors import UsageError

_PATTERN = re.compile(r"w(?P<weights>\d+|f)(a(?P<activations>\d+|f))?")
_WEIGHTS = range(2, 9)
_ACTIVATIONS = (*range(2, 9), 16)


@dataclass(frozen=True)
class Bits:
    """Bits of weights and activations of one unit; None is float."""

    weights: int | None
    activations: int | None

    @classmethod
    def parse(cls, text: str) -> "Bits":
        """Read ``w<2..8|f>[a<2..8|16|f>]``.

        Raises:
            UsageError: the text is not of that form, or a width is not offered.
        """
        match = _PATTERN.fullmatch(text.strip().lower())
        if match is None:
            raise UsageError(f"--bits {text!r}: not a number format; write for example w8a8, w4a8, w8a16 or w4")
        weights, activations = (
            None if part in (None, "f") else int(part) for part in match.group("weights", "activations")
        )
        if weights is not None and weights not in _WEIGHTS:
            raise UsageError(f"--bits {text!r}: weights take 2 to 8 bits, not {weights}")
        if activations is not None and activations not in _ACTIVATIONS:
            raise UsageError(f"--bits {text!r}: activations take 2 to 8 or 16 bits, not {activations}")
        if weights is None and activations is not None:
            raise UsageError(f"--bits {text!r}: no runtime computes quantized activations with float weights")
        return cls(weights, activations)

    def __str__(self) -> str:
        weights = "f" if self.weights is None else str(self.weights)
        return f"w{weights}" if self.activations is None else f"w{weights}a{self.activations}"


FLOAT = Bits(None, None)
