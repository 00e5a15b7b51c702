"""A weighted unit as a matrix product: its weight as rows, its input as columns.

    Y[g] = W[g] X[g]      W: (groups, outputs of a group, K),   X: (groups, K, positions)

A convolution's X holds the patches under its kernel (im2col), K = channels of a group x kernel; a Gemm's or MatMul's X
holds the input's vectors, with one group.
"""

from dataclasses import dataclass

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


def scales_of_rows(
    graph: Graph, unit: Unit, scales: npt.NDArray[np.generic], rows: torch.Tensor, *, blocked: bool
) -> torch.Tensor:
    """What a grid has for each scale, as float64 (groups, outputs) of those rows, or (.., blocks)."""
    array = np.asarray(scales, np.float64)
    if blocked:
        return torch.from_numpy(to_rows(graph, unit, array).copy())
    groups, outputs = rows.shape[:2]
    return torch.from_numpy(np.broadcast_to(array.reshape(-1), groups * outputs).copy()).reshape(groups, outputs)


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
    window = _Window.of(node, _kernel(graph, unit))
    if window.rank == 1:
        tensor = tensor.unsqueeze(2)
    return window.patches(tensor, thin, offset)


def shape_of_columns(graph: Graph, unit: Unit, tensor: torch.Tensor) -> tuple[int, int, int]:
    """(groups, K, positions) of :func:`columns` of one batch, without making them."""
    node = graph.node(unit.name)
    if node.op_type != "Conv":
        return 1, tensor.shape[-1], tensor.numel() // tensor.shape[-1]
    window = _Window.of(node, _kernel(graph, unit))
    sizes = (1, tensor.shape[2]) if window.rank == 1 else tuple(tensor.shape[2:])
    rows, wide = (window.positions(axis, size) for axis, size in enumerate(sizes))
    depth = tensor.shape[1] // window.groups * window.kernel[0] * window.kernel[1]
    return window.groups, depth, len(tensor) * rows * wide


def _kernel(graph: Graph, unit: Unit) -> tuple[int, ...]:
    weight = graph.constant(unit.weight) if unit.weight is not None else None
    assert weight is not None
    return tuple(weight.shape[2:])


@dataclass(frozen=True)
class _Window:
    """How a convolution's kernel moves over height and width; one-dimensional ones have a height of 1."""

    rank: int
    groups: int
    kernel: tuple[int, int]
    pads: tuple[int, int, int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]

    @classmethod
    def of(cls, node: ir.Node, kernel: tuple[int, ...]) -> "_Window":
        rank = len(kernel)
        pads = _ints(node, "pads", 2 * rank, 0)
        if node.attributes.get_string("auto_pad", "NOTSET") == "VALID":
            pads = (0,) * (2 * rank)
        strides, dilations = _ints(node, "strides", rank, 1), _ints(node, "dilations", rank, 1)
        if rank == 1:
            kernel, pads = (1, *kernel), (0, pads[0], 0, pads[1])
            strides, dilations = (1, *strides), (1, *dilations)
        groups = int(node.attributes.get_int("group", 1))
        return cls(
            rank, groups, (kernel[0], kernel[1]), (pads[0], pads[1], pads[2], pads[3]),
            (strides[0], strides[1]), (dilations[0], dilations[1]),
        )  # fmt: skip

    def reach(self, axis: int) -> int:
        """How far the kernel reaches."""
        return self.dilations[axis] * (self.kernel[axis] - 1) + 1

    def positions(self, axis: int, size: int) -> int:
        """How many positions an input of that size has."""
        return (size + self.pads[axis] + self.pads[2 + axis] - self.reach(axis)) // self.strides[axis] + 1

    def patches(self, tensor: torch.Tensor, thin: int, offset: int) -> torch.Tensor:
        """What lies under the kernel, (groups, K, positions); larger strides visit one position in ``thin``."""
        if any(self.pads):
            tensor = functional.pad(tensor, (self.pads[1], self.pads[3], self.pads[0], self.pads[2]))
        strides = self.strides
        if thin > 1:
            tensor, strides = self._thinned(tensor, thin, offset)
        count = len(tensor)
        if self.kernel == (1, 1):
            taken = tensor[:, :, :: strides[0], :: strides[1]].flatten(2)
        else:
            taken = functional.unfold(tensor, self.kernel, dilation=self.dilations, stride=strides)
        # (samples, channels x kernel, positions): the channels of a group are neighbours.
        depth = taken.shape[1] // self.groups
        return taken.reshape(count, self.groups, depth, -1).permute(1, 2, 0, 3).reshape(self.groups, depth, -1)

    def _thinned(self, padded: torch.Tensor, thin: int, offset: int) -> tuple[torch.Tensor, tuple[int, int]]:
        """Larger strides from a moving origin cost no more than the positions that they visit."""
        wider: list[int] = []
        for axis in (1, 0):  # widths first: a one-dimensional convolution has no height to thin
            positions = (padded.shape[2 + axis] - self.reach(axis)) // self.strides[axis] + 1
            factor = min(positions, max(1, round(thin**0.5)) if axis == 1 and padded.shape[2] > 1 else thin)
            start = offset % factor * self.strides[axis]
            padded = padded.narrow(2 + axis, start, padded.shape[2 + axis] - start)
            wider.append(self.strides[axis] * factor)
            thin, offset = max(1, thin // factor), offset // factor
        return padded, (wider[1], wider[0])


def _ints(node: ir.Node, key: str, count: int, default: int) -> tuple[int, ...]:
    return tuple(int(i) for i in node.attributes.get_ints(key, ())) or (default,) * count
