"""Whether the integer model is faster here, and if not, why: in one sentence, with the layers to leave in float.

Causes are looked for in the order in which they can be cured: work that is not integer, conversions, moved data, layers
that are slower than in float, a CPU without instructions for integer products, and last a model that is simply small.
"""

from dataclasses import dataclass

from edgeq.devices.instructions import InstructionCount
from edgeq.devices.op_profile import OpProfile
from edgeq.measurement import DeviceInfo, LatencyComparison

#: Any of them multiplies and adds 8-bit numbers four at a time.
DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
#: From which part of the time on something is worth naming.
_WORTH_NAMING = 0.10
_NAMED = 3
#: An interval around 1 that is wider than this tells nothing.
_TOO_WIDE = 0.25


@dataclass(frozen=True)
class SpeedVerdict:
    """What to tell the user about the speed.

    Attributes:
        faster: the whole interval of the ratio lies under 1.
        sentence: what was found and why.
        leave_in_float: names of ops that the runtime computes slower in integer than in float.
    """

    faster: bool
    sentence: str
    leave_in_float: tuple[str, ...] = ()


def speed_verdict(
    comparison: LatencyComparison,
    device: DeviceInfo,
    candidate: OpProfile | None = None,
    reference: OpProfile | None = None,
) -> SpeedVerdict:
    """Judge a comparison of the float model (reference) and the integer one (candidate).

    Args:
        comparison: from :meth:`edgeq.devices.Device.compare_latency`.
        device: where it was made.
        candidate: the integer model's profile, if there is one.
        reference: the float model's profile, if there is one.
    """
    ratio = comparison.ratio
    measured = f"{ratio.estimate:.2f} times the float model's latency [{ratio.low:.2f}, {ratio.high:.2f}]"
    if ratio.high < 1:
        return SpeedVerdict(True, f"int8 is faster here: {measured}")
    if ratio.low < 1 and ratio.high - ratio.low > _TOO_WIDE:
        advice = "the timings scatter too much; measure again with less load on the device, or with more runs"
        return SpeedVerdict(False, f"whether int8 is faster here cannot be told ({measured}): {advice}")
    slower = slower_in_integer(candidate, reference)
    reason = _reason(device, candidate, slower) or (
        "its integer kernels take as long as the float ones at this size: the fixed cost of each op outweighs its work"
    )
    what = "int8 brings nothing here" if ratio.low <= 1 else "int8 is slower here"
    return SpeedVerdict(False, f"{what} ({measured}), because {reason}", slower)


def instruction_verdict(candidate: InstructionCount, reference: InstructionCount, device: DeviceInfo) -> SpeedVerdict:
    """Judge the integer model's instructions (candidate) against the float one's (reference) on an emulated CPU.

    Instructions are not time: a CPU executes some of them slower than others. But the counts repeat.
    """
    ratio = candidate.median / reference.median
    spread = max(candidate.spread, reference.spread)
    measured = f"{ratio:.3f} times the float model's instructions on {device.cpu}, repeats within {spread:.2%}"
    if ratio + spread < 1:
        return SpeedVerdict(True, f"int8 needs fewer instructions here: {measured}")
    reason = "" if set(DOT_PRODUCTS) & set(device.cpu_features) else (
        f", because {device.cpu} has no instructions for 8-bit products (dotprod)"
    )  # fmt: skip
    return SpeedVerdict(False, f"int8 saves no instructions here: {measured}{reason}")


def _reason(device: DeviceInfo, profile: OpProfile | None, slower: tuple[str, ...]) -> str:
    if profile is not None:
        for kinds, what in (
            (("float",), "runs in float"),
            (("quantize",), "goes into conversions between float and integer"),
            (("layout",), "goes into moving data (transposes, pads, slices)"),
        ):
            share = profile.share(*kinds)  # type: ignore[arg-type]
            if share >= _WORTH_NAMING:
                names = ", ".join(op.name for op in profile.slowest(*kinds)[:_NAMED])  # type: ignore[arg-type]
                return f"{share:.0%} of its time {what}: {names}"
    if slower:
        return f"these ops are slower in integer than in float: {', '.join(slower[:_NAMED])}"
    if not set(DOT_PRODUCTS) & set(device.cpu_features):
        return f"{device.cpu} has no instructions for 8-bit products (VNNI, dotprod), so that integers gain little"
    return ""


def slower_in_integer(candidate: OpProfile | None, reference: OpProfile | None) -> tuple[str, ...]:
    """Ops of the same name that take longer in the integer model by a tenth and more, the costliest first."""
    if candidate is None or reference is None:
        return ()
    floats = {op.name: op.milliseconds for op in reference.ops}
    excess = {
        op.name: op.milliseconds - floats[op.name]
        for op in candidate.ops
        if op.name in floats and op.milliseconds > 1.1 * floats[op.name] and op.kind == "integer"
    }
    return tuple(sorted(excess, key=lambda name: -excess[name]))
