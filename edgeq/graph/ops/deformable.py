"""Convolution and pooling at places that the model computes, and the causal convolution with a carried state."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeq.errors import UnsupportedOpError
from edgeq.graph.ops.op import Op


def deform_conv(
    x: Tensor,
    weight: Tensor,
    offset: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    offset_group: int = 1,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """2-D convolution whose taps are moved by offsets (N, groups x kernel x 2, OH, OW), bilinear, zero outside."""
    if x.dim() != 4:
        raise UnsupportedOpError(f"DeformConv over {x.dim() - 2} spatial axes is not executed; edgeq does 2")
    n, channels = x.shape[:2]
    kh, kw = weight.shape[2:]
    oh, ow = offset.shape[2:]
    top, left = list(pads or (0, 0, 0, 0))[:2]
    (sh, sw), (dh, dw) = strides or (1, 1), dilations or (1, 1)
    device = x.device
    moved = offset.reshape(n, offset_group, kh, kw, 2, oh, ow)
    rows = torch.arange(oh, device=device).reshape(oh, 1) * sh - top
    columns = torch.arange(ow, device=device) * sw - left
    y = rows + (torch.arange(kh, device=device) * dh).reshape(kh, 1, 1, 1) + moved[:, :, :, :, 0]
    x_ = columns + (torch.arange(kw, device=device) * dw).reshape(kw, 1, 1) + moved[:, :, :, :, 1]
    groups = x.reshape(n * offset_group, channels // offset_group, *x.shape[2:])
    taps = _bilinear(groups, y.reshape(n * offset_group, -1), x_.reshape(n * offset_group, -1))
    taps = taps.reshape(n, offset_group, channels // offset_group, kh * kw, oh * ow)
    if mask is not None:
        taps = taps * mask.reshape(n, offset_group, 1, kh * kw, oh * ow)
    columns_ = taps.reshape(n, group, (channels // group) * kh * kw, oh * ow)
    kernel = weight.reshape(group, weight.shape[0] // group, -1)
    result = torch.einsum("gok,ngkp->ngop", kernel, columns_).reshape(n, -1, oh, ow)
    return result if bias is None else result + bias.reshape(-1, 1, 1)


def _bilinear(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x (N, C, H, W) at fractional places (N, P); zero outside. (N, C, P)."""
    height, width = x.shape[2:]
    grid = torch.stack(
        [2 * columns.to(x.dtype) / max(width - 1, 1) - 1, 2 * rows.to(x.dtype) / max(height - 1, 1) - 1], -1
    )
    if min(height, width) == 1:
        raise UnsupportedOpError("sampling an image of one row or column is not executed; pad it")
    return functional.grid_sample(x, grid.unsqueeze(1), mode="bilinear", align_corners=True).squeeze(2)


def roi_align(
    x: Tensor,
    regions: Tensor,
    batch: Tensor,
    *,
    coordinate_transformation_mode: str | None = None,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
    opset: int = 16,
) -> Tensor:
    """Pooled bilinear samples of each region (x1, y1, x2, y2) of x (N, C, H, W)."""
    transformation = coordinate_transformation_mode or ("half_pixel" if opset >= 16 else "output_half_pixel")
    shift = 0.5 if transformation == "half_pixel" else 0.0
    pooled = []
    for region, sample in zip(regions * spatial_scale - shift, batch.tolist(), strict=True):
        x1, y1, x2, y2 = (float(v) for v in region)
        width, height = x2 - x1, y2 - y1
        if transformation != "half_pixel":
            width, height = max(width, 1.0), max(height, 1.0)
        bin_h, bin_w = height / output_height, width / output_width
        per_h = sampling_ratio or max(-int(-bin_h // 1), 1)
        per_w = sampling_ratio or max(-int(-bin_w // 1), 1)
        rows = y1 + (torch.arange(output_height * per_h, device=x.device) + 0.5) * bin_h / per_h
        columns = x1 + (torch.arange(output_width * per_w, device=x.device) + 0.5) * bin_w / per_w
        corners = _corner_samples(x[int(sample)], rows, columns)
        weighted = corners.reshape(4, -1, output_height, per_h, output_width, per_w)
        if mode == "avg":
            pooled.append(weighted.sum(0).mean((2, 4)))
        else:  # the standard takes the maximum over the weighted corners, not over their sums
            pooled.append(weighted.amax((0, 3, 5)))
    return torch.stack(pooled) if pooled else x.new_zeros(0, x.shape[1], output_height, output_width)


def _corner_samples(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The four weighted corners of each bilinear sample of image (C, H, W): (4, C, rows, columns)."""
    height, width = image.shape[1:]
    parts = []
    inside = ((rows >= -1) & (rows <= height)).reshape(-1, 1) & ((columns >= -1) & (columns <= width))
    r, c = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    r0, c0 = r.floor().to(torch.int64), c.floor().to(torch.int64)
    r1, c1 = (r0 + 1).clamp(max=height - 1), (c0 + 1).clamp(max=width - 1)
    dr, dc = (r - r0).reshape(-1, 1), c - c0
    for row, row_weight in ((r0, 1 - dr), (r1, dr)):
        for column, column_weight in ((c0, 1 - dc), (c1, dc)):
            weight = torch.where(inside, row_weight * column_weight, 0.0).to(image.dtype)
            parts.append(image[:, row][:, :, column] * weight)
    return torch.stack(parts)


def causal_conv_with_state(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, past: Tensor | None = None, *, activation: str = "none"
) -> tuple[Tensor, Tensor]:
    """Depthwise convolution of x (N, C, time) with what came before; the second output is the state to carry."""
    reach = weight.shape[2] - 1
    before = x.new_zeros(*x.shape[:2], reach) if past is None else past
    joined = torch.cat([before, x], 2)
    y = functional.conv1d(joined, weight, bias, groups=x.shape[1])
    y = functional.silu(y) if activation in ("silu", "swish") else y
    return y, joined[:, :, joined.shape[2] - reach :]


OPS = {
    ("", "CausalConvWithState"): Op(causal_conv_with_state),
    ("", "DeformConv"): Op(deform_conv),
    ("", "RoiAlign"): Op(roi_align),
}
