"""A weighted unit as a matrix product: its weight as rows, its input as columns.

    Y[g] = W[g] X[g]      W: (groups, outputs of a group, K),   X: (groups, K, positions)

A convolution's X holds the patches under its kernel (im2col), K = channels of a group x kernel; a Gemm's or MatMul's X
holds the input's vectors, with one group.
"""

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch.nn import functional

from edgeq.graph.graph import Graph
from edgeq.plan.plan import Unit

Array = npt.NDArray[np.float64]


def has_columns(graph: Graph, unit: Unit) -> bool:
    """Whether a weighted unit can be written so: Conv in 1 or 2 dimensions, Gemm, MatMul."""
    node = graph.node(unit.name)
    if node.op_type == "Conv":
        weight = graph.constant(unit.weight) if unit.weight is not None else None
        return weight is not None and weight.ndim in (3, 4) and node.attributes.get_string("auto_pad", "NOTSET") in (
            "NOTSET", "VALID",
        )  # fmt: skip
    return node.op_type in ("Gemm", "MatMul")


def to_rows(graph: Graph, unit: Unit, weight: npt.NDArray[np.floating]) -> Array:
    """The weight (graph's layout) as float64 (groups, outputs of a group, K)."""
    node = graph.node(unit.name)
    if node.op_type == "Conv":
        groups = int(node.attributes.get_int("group", 1))
        return np.asarray(weight, np.float64).reshape(groups, weight.shape[0] // groups, -1)
    rows = weight if _transposed(node) else weight.T
    return np.asarray(rows, np.float64)[None]


def from_rows(graph: Graph, unit: Unit, rows: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The inverse of :func:`to_rows`."""
    node = graph.node(unit.name)
    original = graph.constant(unit.weight) if unit.weight is not None else None
    assert original is not None
    if node.op_type == "Conv":
        return rows.reshape(original.shape)
    matrix: npt.NDArray[np.floating] = rows[0]
    return matrix if _transposed(node) else matrix.T


def _transposed(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))


def columns(graph: Graph, unit: Unit, tensor: torch.Tensor, thin: int = 1, offset: int = 0) -> torch.Tensor:
    """The input of one batch as (groups, K, positions).

    Args:
        graph: the model.
        unit: a unit that :func:`has_columns`.
        tensor: its first input.
        thin: take about one position in so many, evenly spread.
        offset: which ones; vary it from batch to batch.
    """
    node = graph.node(unit.name)
    if node.op_type != "Conv":
        return tensor.reshape(-1, tensor.shape[-1])[offset % thin :: thin].T[None]
    groups = int(node.attributes.get_int("group", 1))
    weight = graph.constant(unit.weight) if unit.weight is not None else None
    assert weight is not None
    return _patches(tensor, node, weight.shape[2:], groups, thin, offset)


def _patches(
    tensor: torch.Tensor, node: ir.Node, kernel: tuple[int, ...], groups: int, thin: int, offset: int
) -> torch.Tensor:
    rank = len(kernel)
    pads = _ints(node, "pads", 2 * rank, 0)
    if node.attributes.get_string("auto_pad", "NOTSET") == "VALID":
        pads = (0,) * (2 * rank)
    strides, dilations = _ints(node, "strides", rank, 1), _ints(node, "dilations", rank, 1)
    if rank == 1:
        tensor, kernel = tensor.unsqueeze(2), (1, *kernel)
        pads, strides, dilations = (0, pads[0], 0, pads[1]), (1, *strides), (1, *dilations)
    padded = functional.pad(tensor, (pads[1], pads[3], pads[0], pads[2]))
    if thin > 1:
        padded, strides = _thinned(padded, kernel, dilations, strides, thin, offset)
    patches = functional.unfold(padded, kernel, dilation=dilations, stride=strides)
    # (samples, channels x kernel, positions): the channels of a group are neighbours.
    count, depth, positions = patches.shape
    grouped = patches.reshape(count, groups, depth // groups, positions).permute(1, 2, 0, 3)
    return grouped.reshape(groups, depth // groups, count * positions)


def _thinned(
    padded: torch.Tensor,
    kernel: tuple[int, ...],
    dilations: tuple[int, ...],
    strides: tuple[int, ...],
    thin: int,
    offset: int,
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Larger strides from a moving origin visit one position in ``thin``, and cost no more than these."""
    wider: list[int] = []
    for axis in (1, 0):  # widths first: a one-dimensional convolution has no height to thin
        reach = dilations[axis] * (kernel[axis] - 1) + 1
        positions = (padded.shape[2 + axis] - reach) // strides[axis] + 1
        factor = min(positions, max(1, round(thin**0.5)) if axis == 1 and padded.shape[2] > 1 else thin)
        padded = padded.narrow(2 + axis, start := offset % factor * strides[axis], padded.shape[2 + axis] - start)
        wider.append(strides[axis] * factor)
        thin, offset = max(1, thin // factor), offset // factor
    return padded, (wider[1], wider[0])


def _ints(node: ir.Node, key: str, count: int, default: int) -> tuple[int, ...]:
    return tuple(int(i) for i in node.attributes.get_ints(key, ())) or (default,) * count
