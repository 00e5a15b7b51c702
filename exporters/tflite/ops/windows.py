"""Sliding windows on H and W: which of TFLite's two paddings says the same, and the PAD op where neither does."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgeq.exporters.tflite.emitter import Emitter
from edgeq.exporters.tflite.schema import S, options
from edgeq.plan.plan import Unit
from edgeq.plan.quantization import Quantization


@dataclass(frozen=True)
class Windows:
    """Windows on two spatial axes (a 1-D op has H = 1)."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    begin: tuple[int, int]
    end: tuple[int, int]

    @property
    def extent(self) -> tuple[int, int]:
        """Length that one window covers."""
        return (
            (self.kernel[0] - 1) * self.dilations[0] + 1,
            (self.kernel[1] - 1) * self.dilations[1] + 1,
        )


def pair(numbers: Sequence[int] | None, default: int, spatial: int) -> tuple[int, int]:
    """Two numbers for H and W; a 1-D op's number is W's."""
    if numbers is None:
        return (default, default)
    return (default, int(numbers[0])) if spatial == 1 else (int(numbers[0]), int(numbers[1]))


def windows_of(e: Emitter, unit: Unit, kernel: Sequence[int], source: Sequence[int], result: Sequence[int]) -> Windows:
    """The windows of a unit's anchor, with the padding that its output shape implies.

    Args:
        e: the export.
        unit: a convolution or pooling.
        kernel: window lengths by spatial axis.
        source: spatial shape of the input.
        result: spatial shape of the output, as computed.
    """
    attributes, rank = e.attributes(unit), len(source)
    if rank not in (1, 2):
        raise e.refuse(unit, f"TFLite slides windows over one or two axes, not {rank}")
    steps = list(attributes.get("strides") or [1] * rank)
    spread = list(attributes.get("dilations") or [1] * rank)
    pads = list(attributes.get("pads") or [0] * 2 * rank)
    begin, end = pads[:rank], pads[rank:]
    auto = attributes.get("auto_pad", "NOTSET")
    for axis in range(rank):
        # What the last window needs; ceil_mode asks for more than the pads say, an unused tail for less.
        need = (result[axis] - 1) * steps[axis] + (kernel[axis] - 1) * spread[axis] + 1 - source[axis]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            total = max(need, 0)
            begin[axis] = total // 2 if auto == "SAME_UPPER" else total - total // 2
        elif auto == "VALID":
            begin[axis] = 0
        end[axis] = max(need - begin[axis], 0)
    if min(begin + end, default=0) < 0:
        raise e.refuse(unit, "negative pads")
    return Windows(
        pair(kernel, 1, rank), pair(steps, 1, rank), pair(spread, 1, rank), pair(begin, 0, rank), pair(end, 0, rank)
    )


def padding(w: Windows, height: int, width: int) -> int | None:
    """TFLite's VALID or SAME if one of them means these pads, else None."""
    if not any(w.begin + w.end):
        return int(S.Padding.VALID)
    for axis, size in enumerate((height, width)):
        results = -(-size // w.strides[axis])
        total = max((results - 1) * w.strides[axis] + w.extent[axis] - size, 0)
        if (w.begin[axis], w.end[axis]) != (total // 2, total - total // 2):
            return None
    return int(S.Padding.SAME)


def pad(e: Emitter, unit: Unit, source: int, w: Windows, grid: Quantization | None, code: str = "PAD") -> int:
    """Write a PAD (zeros, or the zero point) of H and W; gives the padded tensor."""
    n, h, wide, c = e.writer.shape(source)
    shape = (n, h + w.begin[0] + w.end[0], wide + w.begin[1] + w.end[1], c)
    result = e.step(source, f"{unit.outputs[0]}::padded", shape, grid)
    amounts = [[0, 0], [w.begin[0], w.end[0]], [w.begin[1], w.end[1]], [0, 0]]
    e.writer.operator(code, [source, e.indices("pads", amounts)], [result], options("Pad"))
    return result
