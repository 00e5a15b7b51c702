"""Convolution and transposed convolution of 1 to 3 spatial axes."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from edgeq.errors import UnsupportedOpError
from edgeq.graph.ops.op import Op
from edgeq.graph.ops.windows import pad_spatial, windows

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_CONV_TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Cross-correlation of x (N, C, spatial) with weight (M, C / group, kernel)."""
    rank = _spatial_rank(x, "Conv")
    w = windows(x.shape[2:], weight.shape[2:], strides, dilations, pads, auto_pad)
    padding = w.begin
    if not w.symmetric:
        x, padding = pad_spatial(x, w.begin, w.end), (0,) * rank
    result: Tensor = _CONV[rank](x, weight, bias, w.strides, padding, w.dilations, group)
    return result


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    output_padding: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Gradient of a convolution with respect to its input: x (N, C, spatial), weight (C, M / group, kernel)."""
    rank = _spatial_rank(x, "ConvTranspose")
    steps, spread = tuple(strides or (1,) * rank), tuple(dilations or (1,) * rank)
    extra = tuple(output_padding or (0,) * rank)
    full = [
        (size - 1) * step + (k - 1) * d + 1
        for size, k, step, d in zip(x.shape[2:], weight.shape[2:], steps, spread, strict=True)
    ]
    begin, end = _transposed_pads(x.shape[2:], full, steps, extra, output_shape, pads, auto_pad)
    apply = _CONV_TRANSPOSE[rank]
    direct = (
        begin == end and min(begin) >= 0 and all(e < max(s, d) for e, s, d in zip(extra, steps, spread, strict=True))
    )
    if direct:
        result: Tensor = apply(x, weight, bias, steps, begin, extra, group, spread)
        return result
    result = apply(x, weight, None, steps, 0, 0, group, spread)
    result = pad_spatial(result, [-b for b in begin], [o - e for o, e in zip(extra, end, strict=True)])
    return result if bias is None else result + bias.reshape(-1, *(1,) * rank)


def _transposed_pads(
    spatial: Sequence[int],
    full: Sequence[int],
    strides: Sequence[int],
    extra: Sequence[int],
    output_shape: Sequence[int] | None,
    pads: Sequence[int] | None,
    auto_pad: str,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rank = len(spatial)
    if output_shape is None and auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        output_shape = [size * step for size, step in zip(spatial, strides, strict=True)]
    if output_shape is None:
        given = tuple(pads or (0,) * 2 * rank) if auto_pad == "NOTSET" else (0,) * 2 * rank
        return given[:rank], given[rank:]
    total = [f + e - size for f, e, size in zip(full, extra, output_shape[-rank:], strict=True)]
    half, rest = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (half, rest) if auto_pad == "SAME_UPPER" else (rest, half)


def _spatial_rank(x: Tensor, op: str) -> int:
    rank = x.dim() - 2
    if rank not in _CONV:
        raise UnsupportedOpError(f"{op} over {rank} spatial axes is not executed; edgeq does 1, 2 and 3")
    return rank


OPS = {
    ("", "Conv"): Op(conv),
    ("", "ConvTranspose"): Op(conv_transpose),
}
