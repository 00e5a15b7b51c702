"""The remedy of a verdict, as edgeq commands that can be pasted into a POSIX shell."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgeq.basin.verdict import Verdict
from edgeq.plan.bits import Bits

_NAMED = 4
#: A training that is tried first, and one that is tried after it; the longer one in seconds too.
_SHORT, _LONG, _LONG_SECONDS = "2min", "10min", 600.0
#: What an fnmatch pattern takes for itself.
_SPECIAL = {"[": "[[]", "*": "[*]", "?": "[?]"}


def remedy(
    verdict: Verdict,
    command: str,
    bits: Bits,
    blamed: Sequence[str],
    safe_bits: Mapping[str, int | None],
    *,
    activations_share: float = 0.0,
    trained: float = 0.0,
) -> tuple[str, ...]:
    """Commands, the most promising first.

    Args:
        verdict: what is wrong.
        command: how the candidate was asked for, without its number format: ``edgeq convert m.onnx --data d.npz``.
        bits: the candidate's number format.
        blamed: the layers to blame, worst first.
        safe_bits: the fewest safe bits of each layer.
        activations_share: the share of D that quantized activations add.
        trained: the seconds of training that the candidate is what came of; infinity where they are not known.
    """
    asked = f"{command} --bits {bits}"
    wider = _wider(asked, command, bits, blamed, safe_bits, activations_share)
    if verdict.kind == "inside":
        return (asked,)
    if verdict.kind == "broken":
        model = " ".join(shlex.quote(word) for word in shlex.split(command)[2:3])
        return f"edgeq inspect {model}", f"{asked} --observer percentile"
    if verdict.kind in ("statistics", "rounding", "activations"):
        first = "statistics" if verdict.kind == "statistics" else "gptq+variance"
        return f"{asked} --method {first}", f"{asked} --method auto", wider
    training = f"{asked} --method auto --recover-budget"
    if trained == 0 and verdict.kind in ("exit", "rounded"):
        return f"{training} {_SHORT}", wider
    return (wider, f"{training} {_LONG}") if trained < _LONG_SECONDS else (wider,)


def _wider(
    asked: str,
    command: str,
    bits: Bits,
    blamed: Sequence[str],
    safe_bits: Mapping[str, int | None],
    activations_share: float,
) -> str:
    """The command with more bits where they are missing: for the activations, or for the layers to blame."""
    if bits.activations is not None and bits.activations < 16 and activations_share > 0.5:
        return f"{command} --bits {replace(bits, activations=8 if bits.activations < 8 else 16)}"
    few = []
    for name in blamed[:_NAMED]:
        if bits.weights is None or bits.weights >= 8:
            few.append(f"--float {shlex.quote(glob_of(name))}")
            continue
        # A layer that is to blame gets more bits, though alone it would have enough.
        more = replace(bits, weights=max(safe_bits.get(name) or 8, bits.weights + 1))
        few.append(f"--bits-for {shlex.quote(f'{glob_of(name)}={more}')}")
    return " ".join([asked, *few])


def glob_of(name: str) -> str:
    """A pattern that only this name matches."""
    return "".join(_SPECIAL.get(letter, letter) for letter in name)
