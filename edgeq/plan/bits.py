"""The requested number formats: ``w8a8``, ``w4a16``, ``w4`` (weight-only), ``w4b32`` (a scale for each 32 inputs)."""

import re
from dataclasses import dataclass

from edgeq.errors import UsageError

_PATTERN = re.compile(r"w(?P<weights>\d+|f)(a(?P<activations>\d+|f))?(b(?P<block>\d+))?")
_WEIGHTS = range(2, 9)
_ACTIVATIONS = (*range(2, 9), 16)
#: Blocks that both runtimes have kernels for, and the widest codes that lie in them.
_BLOCKS, _WIDEST_IN_BLOCKS = (32, 64, 128), 4


@dataclass(frozen=True)
class Bits:
    """Bits of weights and activations of one unit; None is float.

    Attributes:
        weights: of a weight's code.
        activations: of an activation's code.
        block: how many of an output's weights share a scale; None: all of them (or all of the tensor's).
    """

    weights: int | None
    activations: int | None
    block: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Bits":
        """Read ``w<2..8|f>[a<2..8|16|f>][b<32|64|128>]``.

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
        block = None if match["block"] is None else int(match["block"])
        if block is not None and (
            block not in _BLOCKS or activations is not None or (weights or 8) > _WIDEST_IN_BLOCKS
        ):
            raise UsageError(
                f"--bits {text!r}: scales for blocks of 32, 64 or 128 inputs go with weight-only formats of "
                "2 to 4 bits, as w4b32"
            )
        return cls(weights, activations, block)

    def __str__(self) -> str:
        weights = "f" if self.weights is None else str(self.weights)
        block = "" if self.block is None else f"b{self.block}"
        return f"w{weights}{block}" if self.activations is None else f"w{weights}a{self.activations}"


FLOAT = Bits(None, None)
