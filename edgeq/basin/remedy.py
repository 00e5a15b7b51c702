"""The remedy of a verdict, as edgeq commands that can be pasted."""

from collections.abc import Sequence

from edgeq.basin.verdict import Verdict

_NAMED = 4


def remedy(verdict: Verdict, command: str, blamed: Sequence[str], safe_bits: dict[str, int | None]) -> tuple[str, ...]:
    """Commands, the most promising first.

    Args:
        verdict: what is wrong.
        command: how the candidate was asked for, e.g. ``edgeq convert m.onnx --data d.npz --bits w4a8``.
        blamed: the layers to blame, worst first.
        safe_bits: the fewest safe bits of each layer.
    """
    wider = " ".join(f"--bits-for '{name}=w{safe_bits.get(name) or 8}a8'" for name in blamed[:_NAMED])
    if verdict.name == "inside":
        return (command,)
    if verdict.name == "broken":
        return (f"{command.replace('convert', 'inspect', 1).split(' --data')[0]}", f"{command} --bits w8a8 -v")
    if verdict.name == "slope":
        first = "statistics" if "statistics" in verdict.cause else "gptq+variance"
        return (f"{command} --method {first}", f"{command} --method adaround", f"{command} {wider}")
    if verdict.name == "exit":
        return (f"{command} --method gptq+variance --recover-budget 2min", f"{command} {wider}")
    return (f"{command} {wider}", f"{command} --method gptq+variance --recover-budget 10min")
