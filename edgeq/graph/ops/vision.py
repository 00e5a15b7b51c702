"""Sampling of images at computed places, and what stands around detection heads."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeq.errors import UnsupportedOpError
from edgeq.graph.ops.op import Ints, Op, ints

_SAMPLE_MODES = {"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"} | {
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}


def grid_sample(
    x: Tensor, grid: Tensor, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Tensor:
    """x (N, C, spatial) at the places of the grid, (x, y[, z]) from -1 to 1."""
    if mode not in _SAMPLE_MODES:
        raise UnsupportedOpError(f"GridSample mode {mode!r} is not in the ONNX standard")
    return functional.grid_sample(
        x, grid, mode=_SAMPLE_MODES[mode], padding_mode=padding_mode, align_corners=bool(align_corners)
    )


def affine_grid(theta: Tensor, size: Ints, *, align_corners: int = 0) -> Tensor:
    """Places for :func:`grid_sample` under the affine maps theta (N, 2, 3) or (N, 3, 4)."""
    return functional.affine_grid(theta, ints(size), bool(align_corners))


def center_crop_pad(x: Tensor, shape: Ints, *, axes: Sequence[int] | None = None) -> Tensor:
    """x cropped or padded with zeros around its centre to that shape."""
    dims = [axis % x.dim() for axis in axes] if axes is not None else list(range(x.dim()))
    both = [0] * 2 * x.dim()
    for dim, target in zip(dims, ints(shape), strict=True):
        missing = target - x.shape[dim]
        # The odd element is at the end when padding; when cropping, one more is cut at the end.
        before = missing // 2 if missing >= 0 else -((-missing) // 2)
        place = 2 * (x.dim() - 1 - dim)
        both[place], both[place + 1] = before, missing - before
    return functional.pad(x, both)


def col2im(
    x: Tensor,
    image_shape: Ints,
    block_shape: Ints,
    *,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Columns (N, C x block, places) added up into images (N, C, spatial)."""
    image, block = ints(image_shape), ints(block_shape)
    rank = len(image)
    steps, spread = list(strides or [1] * rank), list(dilations or [1] * rank)
    around = list(pads or [0] * 2 * rank)
    padded = [size + around[d] + around[d + rank] for d, size in enumerate(image)]
    counts = [(padded[d] - spread[d] * (block[d] - 1) - 1) // steps[d] + 1 for d in range(rank)]
    flat = torch.zeros((), dtype=torch.int64, device=x.device)
    for d in range(rank):
        inner = torch.arange(block[d], device=x.device).reshape([-1 if k == d else 1 for k in range(2 * rank)])
        outer = torch.arange(counts[d], device=x.device).reshape([-1 if k == d + rank else 1 for k in range(2 * rank)])
        flat = flat * padded[d] + inner * spread[d] + outer * steps[d]
    area = 1
    for size in padded:
        area *= size
    cells = flat.numel()
    columns = x.reshape(x.shape[0], -1, cells)
    total = columns.new_zeros(columns.shape[0], columns.shape[1], area)
    total = total.index_add(2, flat.reshape(-1), columns).reshape(*columns.shape[:2], *padded)
    for d in range(rank):
        total = total.narrow(2 + d, around[d], image[d])
    return total


def max_unpool(
    x: Tensor,
    positions: Tensor,
    output_shape: Ints | None = None,
    *,
    kernel_shape: Sequence[int],
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """x written to the flat positions that MaxPool gave, zeros elsewhere."""
    rank = x.dim() - 2
    steps, around = list(strides or [1] * rank), list(pads or [0] * 2 * rank)
    natural = [(x.shape[2 + d] - 1) * steps[d] + kernel_shape[d] - around[d] - around[d + rank] for d in range(rank)]
    sizes = [*x.shape[:2], *natural]
    count = 1
    for size in sizes:
        count *= size
    result = x.new_zeros(count).scatter(0, positions.reshape(-1), x.reshape(-1)).reshape(sizes)
    if output_shape is None:
        return result
    # The positions count in the natural shape; a larger one is padded at the end.
    wanted = ints(output_shape)
    return functional.pad(result, [side for d in reversed(range(x.dim())) for side in (0, wanted[d] - sizes[d])])


def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    most: Tensor | int | Sequence[int] | None = None,
    overlap: Tensor | float | Sequence[float] | None = None,
    threshold: Tensor | float | Sequence[float] | None = None,
    *,
    center_point_box: int = 0,
) -> Tensor:
    """Rows (batch, class, box) of the boxes kept, best first, each overlapping no better one by more than a limit.

    Boxes (batch, count, 4) are two corners (y, x), or centre and size (x, y, w, h); scores (batch, classes, count).
    """
    limit, iou, lowest = int(_scalar(most, 0)), _scalar(overlap, 0.0), _scalar(threshold, float("-inf"))
    corners = _corners(boxes, center_point_box)
    kept: list[list[int]] = []
    for batch in range(scores.shape[0]):
        overlaps = _overlaps(corners[batch])
        for label in range(scores.shape[1]):
            row = scores[batch, label]
            order = torch.argsort(row, descending=True, stable=True)
            candidates = [int(index) for index in order if float(row[index]) > lowest]
            chosen: list[int] = []
            for index in candidates:
                if len(chosen) >= limit:
                    break
                if all(float(overlaps[index, other]) <= iou for other in chosen):
                    chosen.append(index)
            kept += [[batch, label, index] for index in chosen]
    return torch.tensor(kept, dtype=torch.int64, device=boxes.device).reshape(-1, 3)


def _scalar(value: Tensor | float | Sequence[float] | None, default: float) -> float:
    if value is None:
        return default
    if isinstance(value, Tensor):
        return float(value.reshape(-1)[0])
    return float(value[0] if isinstance(value, Sequence) else value)


def _corners(boxes: Tensor, center_point_box: int) -> Tensor:
    if center_point_box:
        centre, half = boxes[..., :2], boxes[..., 2:] / 2
        return torch.cat([centre - half, centre + half], -1)
    return torch.cat([torch.minimum(boxes[..., :2], boxes[..., 2:]), torch.maximum(boxes[..., :2], boxes[..., 2:])], -1)


def _overlaps(corners: Tensor) -> Tensor:
    low = torch.maximum(corners[:, None, :2], corners[None, :, :2])
    high = torch.minimum(corners[:, None, 2:], corners[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (corners[:, 2:] - corners[:, :2]).prod(-1)
    union = area[:, None] + area[None, :] - shared
    return torch.where(union > 0, shared / union, torch.zeros_like(shared))


OPS = {
    ("", "AffineGrid"): Op(affine_grid, static=(1,)),
    ("", "CenterCropPad"): Op(center_crop_pad, static=(1,)),
    ("", "Col2Im"): Op(col2im, static=(1, 2)),
    ("", "GridSample"): Op(grid_sample),
    ("", "MaxUnpool"): Op(max_unpool, static=(2,)),
    ("", "NonMaxSuppression"): Op(non_max_suppression, static=(2, 3, 4)),
}
