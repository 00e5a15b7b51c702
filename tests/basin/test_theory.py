"""The geometric failure: rounding that looks at the float weights alone goes through the wall; STE finds the way back.

The floor is nearly flat and round; a wall stands where |r| > b, r = x + 0.8 y oblique to the grid. The float point
lies at the basin's centre. Its nearest grid point is behind the wall, and so is the one that the Hessian at the float
point prefers, for on the floor nothing tells of the wall. Yet two of the four neighbouring grid points lie inside.
"""

import itertools

import pytest
import torch

from edgeq.basin.curvature import curvature
from edgeq.basin.divergence import altitude
from edgeq.basin.inward import gradient
from edgeq.basin.landscape import Landscape, Point
from edgeq.basin.probe import probe
from edgeq.basin.reading import read

from .analytic import landscape, reference

S, H, B = 0.05, 3.0, 0.3
FLOAT = (0.45, 0.4)


def _residuals(point: Point) -> torch.Tensor:
    x, y = point["x"] - FLOAT[0], point["y"] - FLOAT[1]
    r = x + 0.8 * y
    return torch.cat([S * x, S * y, H * (r.abs() - B).clamp_min(0)])


def _at(x: float, y: float) -> Landscape:
    return landscape(_residuals, {"x": [FLOAT[0]], "y": [FLOAT[1]]}, {"x": [x], "y": [y]})


def _height(scape: Landscape, point: Point) -> float:
    return float(altitude(scape, point, reference(scape), 0.0)[0].mean())


CORNERS = tuple(itertools.product((0.0, 1.0), repeat=2))


def test_nearest_and_second_order_rounding_choose_a_point_behind_the_wall_though_one_inside_is_near() -> None:
    heights = {corner: _height(_at(*corner), _at(*corner).deployed) for corner in CORNERS}
    predicted = {corner: float(curvature(_at(*corner), reference(_at(*corner))).mean()) for corner in CORNERS}
    nearest = (float(round(FLOAT[0])), float(round(FLOAT[1])))
    second_order = min(predicted, key=lambda corner: predicted[corner])
    assert nearest == second_order == (0.0, 0.0)
    best = min(heights, key=lambda corner: heights[corner])
    assert best in ((1.0, 0.0), (0.0, 1.0))
    assert heights[nearest] > 100 * heights[best]


def test_the_reading_says_that_the_hessian_is_blind() -> None:
    scape = _at(0.0, 0.0)
    reading = read(scape, reference(scape), tau=0.05)
    r = FLOAT[0] + 0.8 * FLOAT[1]
    floor = S**2 * (FLOAT[0] ** 2 + FLOAT[1] ** 2)
    assert pytest.approx(floor, rel=1e-9) == reading.K
    assert reading.R.estimate == pytest.approx((floor + H**2 * (r - B) ** 2) / floor, rel=1e-9)
    assert reading.steepest > 4
    assert reading.I is not None
    assert reading.I.value > 0


def test_ste_reenters_in_finite_steps_while_the_latent_weights_climb() -> None:
    scape = _at(0.0, 0.0)
    ref = reference(scape)
    # The decision threshold is 0.05 steps away and a step is 0.005: a dozen steps, and some for the warm-up.
    found = probe(scape, ref, ref, steps=40, batch=16, checks=20)
    assert found.deployed[0] > 1.9
    assert found.best < 0.01
    first_inside = next(k for k, phi in zip(found.steps, found.deployed, strict=True) if phi < 0.01)
    assert first_inside <= 20
    assert found.latent[0] == 0.0
    assert max(found.latent) > 0.0
    assert (float(found.point["x"]), float(found.point["y"])) in ((1.0, 0.0), (0.0, 1.0))


def test_float_descent_then_rounding_does_not_reenter() -> None:
    scape = _at(0.0, 0.0)
    ref = reference(scape)
    inputs, z0 = next(iter(ref))
    weights = dict(scape.origin)
    for _ in range(400):
        slope = gradient(scape, weights, inputs, z0, ref, 0.0)
        weights = {name: w - 0.05 * slope[name] for name, w in weights.items()}
    rounded = {name: torch.round(w) for name, w in weights.items()}
    assert _height(scape, rounded) > 1.9


def test_inside_the_basin_nothing_is_left_to_gain() -> None:
    # Prediction (i): on a fine grid, rounding to nearest and training end at the same height.
    fine = landscape(_residuals, {"x": [FLOAT[0]], "y": [FLOAT[1]]}, {"x": [0.45], "y": [0.39]})
    ref = reference(fine)
    assert _height(fine, fine.deployed) < 1e-6
    reading = read(fine, ref, tau=0.05)
    assert reading.R.estimate == pytest.approx(1.0, rel=1e-6)
    assert reading.t_star == float("inf")
