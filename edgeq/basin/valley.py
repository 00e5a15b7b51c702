"""A two-dimensional slice of the valley: the plane through the float point, the deployed point and a third one.

The first axis is the direction from the float to the deployed point, the second what of the third point is
perpendicular to it. Each layer's part is measured in its own grid steps, so that no layer's size hides another's.
Units: 1 is the distance from the float to the deployed point. The plane shows exact altitudes of the weights
(activations in float); a point that lies outside of the plane, such as a fourth, is shown where it projects, and says
how far off it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from edgeq.basin.divergence import Reference, altitude
from edgeq.basin.landscape import Landscape, Point

FLOAT, DEPLOYED = "float", "deployed"


@dataclass(frozen=True, eq=False)
class Marked:
    """A point on the slice.

    Attributes:
        name: its label.
        x: along the first axis.
        y: along the second.
        off: its distance from the plane.
        phi: its own altitude, not that of its projection.
    """

    name: str
    x: float
    y: float
    off: float
    phi: float


@dataclass(frozen=True, eq=False)
class Slice:
    """The altitudes over the plane.

    Attributes:
        xs: (columns,) along the first axis.
        ys: (rows,) along the second.
        phi: (rows, columns).
        marks: float, deployed, and the others.
    """

    xs: npt.NDArray[np.float64]
    ys: npt.NDArray[np.float64]
    phi: npt.NDArray[np.float64]
    marks: tuple[Marked, ...]


def take_slice(
    landscape: Landscape, reference: Reference, others: Mapping[str, Point], *, columns: int = 23, rows: int = 17
) -> Slice:
    """The slice through float, deployed and the first of the others; columns x rows forward passes.

    Args:
        landscape: the candidate.
        reference: the float outputs on a few dozen samples.
        others: label -> point; the first spans the plane. Points that equal the deployed one get a random direction.
        columns: grid points along the first axis.
        rows: along the second.
    """
    first = _coordinates(landscape, landscape.deployed)
    length = float(first.norm())
    unit = first / length
    offsets = {name: _coordinates(landscape, point) / length for name, point in others.items()}
    second = _perpendicular(unit, next(iter(offsets.values()), None))
    marks = [Marked(FLOAT, 0.0, 0.0, 0.0, 0.0)]
    for name, offset in {DEPLOYED: first / length, **offsets}.items():
        x, y = float(offset @ unit), float(offset @ second)
        point = landscape.deployed if name == DEPLOYED else others[name]
        phi = float(altitude(landscape, point, reference, 0.0)[0].mean())
        marks.append(Marked(name, x, y, float((offset - x * unit - y * second).norm()), phi))
    xs, ys = _range([m.x for m in marks], columns, -0.35), _range([m.y for m in marks], rows, -0.45)
    plane = [_uncoordinates(landscape, axis * length) for axis in (unit, second)]
    heights = np.array([[_height(landscape, reference, plane, x, y) for x in xs] for y in ys])
    return Slice(xs, ys, heights, tuple(marks))


def _range(values: list[float], count: int, least: float) -> npt.NDArray[np.float64]:
    low, high = min([least, *values]), max([-least, *values])
    margin = 0.15 * (high - low)
    return np.linspace(low - margin, high + margin, count)


def _coordinates(landscape: Landscape, point: Point) -> torch.Tensor:
    """All parameters' displacement from the float point, in grid steps of their layer."""
    parts = []
    for layer in landscape.layers:
        parts.append(((point[layer.weight] - landscape.origin[layer.weight]) / layer.step).double().flatten())
        if layer.bias is not None:
            parts.append(((point[layer.bias] - landscape.origin[layer.bias]) / layer.step.mean()).double().flatten())
    return torch.cat(parts)


def _uncoordinates(landscape: Landscape, vector: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    start = 0
    for layer in landscape.layers:
        for name, step in ((layer.weight, layer.step), (layer.bias, layer.step.mean())):
            if name is None:
                continue
            w0 = landscape.origin[name]
            part = vector[start : start + w0.numel()].reshape(w0.shape)
            found[name] = (part * step).to(w0.dtype)
            start += w0.numel()
    return found


def _perpendicular(unit: torch.Tensor, offset: torch.Tensor | None) -> torch.Tensor:
    if offset is not None:
        rest = offset - (offset @ unit) * unit
        length = float(rest.norm())
        if length > 1e-6:
            return rest.div(length)
    drawn = torch.randn(unit.shape, generator=torch.Generator().manual_seed(0), dtype=unit.dtype)
    rest = drawn - (drawn @ unit) * unit
    return rest.div(float(rest.norm()))


def _height(
    landscape: Landscape, reference: Reference, plane: list[dict[str, torch.Tensor]], x: float, y: float
) -> float:
    point = {
        name: w0 + x * plane[0][name] + y * plane[1][name] if name in plane[0] else w0
        for name, w0 in landscape.origin.items()
    }
    return float(altitude(landscape, point, reference, 0.0)[0].mean())
