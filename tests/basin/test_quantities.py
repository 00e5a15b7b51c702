"""Every quantity against its exact value on the river valley."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.basin.agreement import agreement, clopper_pearson_upper
from edgeq.basin.blame import blame
from edgeq.basin.curvature import curvature
from edgeq.basin.dither import dither
from edgeq.basin.divergence import Divergence, altitude
from edgeq.basin.inward import inward
from edgeq.basin.path import Path, crossing, local_exponents, walk
from edgeq.basin.reading import read
from edgeq.basin.width import reach, safe_bits, width

from .analytic import Valley, landscape, reference, river

VALLEY = Valley()
# All arithmetic is float64 sums of a few dozen terms.
EXACT = 1e-9


@pytest.mark.parametrize("v", [0.3, 0.9, 1.5, 4.0])
def test_path_is_the_altitude_along_the_line(v: float) -> None:
    scape = river(VALLEY, 0.0, v)
    path = walk(scape, reference(scape), activations=False)
    assert path.phi == pytest.approx([VALLEY.phi(0, t * v) for t in path.ts], rel=EXACT)
    assert path.deployed == pytest.approx(VALLEY.phi(0, v), rel=EXACT)


def test_samples_differ_with_known_mean() -> None:
    scape = river(VALLEY, 0.0, 1.0)
    phi, decisions = altitude(scape, scape.deployed, reference(scape), 0.0)
    assert decisions is None
    assert float(phi.std()) > 0.1
    assert float(phi.mean()) == pytest.approx(VALLEY.phi(0, 1.0), rel=EXACT)


@pytest.mark.parametrize("v", [0.3, 1.5])
def test_curvature_sees_the_floor_and_not_the_wall(v: float) -> None:
    scape = river(VALLEY, 0.0, v)
    ref = reference(scape)
    # Straight river: the outputs are linear near the float point, so the finite difference is exact.
    assert curvature(scape, ref).mean() == pytest.approx(VALLEY.s**2 * v * v, rel=EXACT)


def test_curvature_behind_the_wall_sees_the_wall() -> None:
    scape = river(VALLEY, 0.0, 1.5)
    found = curvature(scape, reference(scape), t=0.8).mean()
    assert found == pytest.approx((VALLEY.s**2 + VALLEY.h**2) * 1.5**2, rel=EXACT)


def test_ratio_is_one_inside_and_known_behind_the_wall() -> None:
    for v in (0.4, 1.5):
        scape = river(VALLEY, 0.0, v)
        reading = read(scape, reference(scape), tau=0.05)
        behind = max(1 - VALLEY.b / v, 0.0)
        assert reading.R.estimate == pytest.approx(1 + (VALLEY.h / VALLEY.s * behind) ** 2, rel=EXACT)
        # Every sample's ratio is the same, so the interval has no width.
        assert reading.R.low == pytest.approx(reading.R.high, rel=1e-6)


def test_inward_component_is_the_slope_at_the_deployed_point() -> None:
    v = 1.5
    scape = river(VALLEY, 0.0, v)
    found = inward(scape, reference(scape), activations=False)
    assert found.value == pytest.approx(2 * VALLEY.s**2 * v * v + 2 * VALLEY.h**2 * (v - VALLEY.b) * v, rel=EXACT)
    assert len(found.by_batch) >= 8
    assert found.p_value == 0.5 ** len(found.by_batch)


def test_inward_component_is_negative_past_a_summit() -> None:
    # sin^2: beyond its summit descent leads away from the float point.
    scape = landscape(lambda point: torch.sin(point["v"]), {"v": [0.0]}, {"v": [2.0]})
    found = inward(scape, reference(scape), activations=False)
    assert found.value == pytest.approx(math.sin(4.0) * 2.0, rel=EXACT)
    assert found.p_value == 1.0


def test_a_bowl_has_exponent_two_and_no_edge() -> None:
    scape = river(replace(VALLEY, h=0.0), 0.0, 3.0)
    path = walk(scape, reference(scape), activations=False)
    assert path.exponents == pytest.approx([2.0] * 6, rel=EXACT)
    assert path.edge == math.inf
    # The last position is the top of the climb, at twice the deployed point's distance.
    assert path.behind == pytest.approx(0.5, rel=EXACT)


def test_the_edge_lies_where_the_wall_begins() -> None:
    # Positions are a factor of two apart, so the edge is known to that: it moves with the wall.
    for v, begin in ((2.4, 0.25), (1.2, 0.5), (0.6, 1.0)):
        scape = river(VALLEY, 0.0, v)
        path = walk(scape, reference(scape), activations=False)
        assert begin / 1.5 <= path.edge <= begin * 1.5
    assert path.steepest == pytest.approx(2.0, rel=EXACT)


def test_a_plateau_far_behind_the_wall_is_told_from_a_bowl() -> None:
    # Saturating: at t = 1 the exponent is under 2, and only the path shows that a wall was climbed.
    def residuals(point: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tanh(point["v"] ** 2)

    scape = landscape(residuals, {"v": [0.0]}, {"v": [3.0]})
    path = walk(scape, reference(scape), activations=False)
    assert path.exponent < 0.1
    assert path.steepest > 3.0
    assert path.edge < 0.3


def test_radius_is_exact_in_a_bowl() -> None:
    scape = river(replace(VALLEY, h=0.0), 0.0, 2.0)
    path = walk(scape, reference(scape), activations=False)
    assert path.radius(0.05) == pytest.approx(math.sqrt(0.05) / (VALLEY.s * 2.0), rel=EXACT)
    assert path.radius(100.0) == math.inf


def test_moving_along_a_curved_river_costs_nothing_at_the_end_but_the_straight_path_shows_the_bank() -> None:
    curved = Valley(kappa=0.5)
    scape = river(curved, 1.5, 0.5 * 1.5**2)
    path = walk(scape, reference(scape), activations=False)
    assert path.deployed == pytest.approx(0.0, abs=1e-12)
    assert path.phi[path.ts.index(0.5)] == pytest.approx(curved.phi(0.75, 0.5 * 0.5 * 1.5**2), rel=EXACT)


def test_blame_is_each_layers_own_climb_when_layers_do_not_interact() -> None:
    def residuals(point: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.cat([VALLEY.residuals({"u": torch.zeros(1), "v": point[name]}) for name in ("a", "b")])

    scape = landscape(residuals, {"a": [0.0], "b": [0.0]}, {"a": [1.5], "b": [0.4]})
    found = blame(scape, reference(scape))
    # The wall's kink lies inside of an interval of the quadrature: three points leave 2 %.
    assert found.by_layer["a"] == pytest.approx(VALLEY.phi(0, 1.5), rel=0.02)
    assert found.by_layer["b"] == pytest.approx(VALLEY.phi(0, 0.4), rel=EXACT)
    assert found.altitude == pytest.approx(VALLEY.phi(0, 1.5) + VALLEY.phi(0, 0.4), rel=EXACT)


def test_blame_of_a_layer_that_makes_up_for_another_is_negative_and_shares_sum_to_the_altitude() -> None:
    scape = landscape(lambda p: p["a"] + p["b"], {"a": [0.0], "b": [0.0]}, {"a": [1.0], "b": [-0.4]})
    found = blame(scape, reference(scape))
    assert found.by_layer["a"] == pytest.approx(0.6, rel=EXACT)
    assert found.by_layer["b"] == pytest.approx(-0.24, rel=EXACT)
    assert found.total == pytest.approx(found.altitude, rel=EXACT)


@given(exponent=st.floats(0.8, 5.0), at=st.floats(0.01, 50.0))
@settings(max_examples=60, deadline=None)
def test_reach_finds_the_amplitude_of_any_power(exponent: float, at: float) -> None:
    # It stops within a factor exp(0.1) of tau, hence exp(0.1 / exponent) of the amplitude; few evaluations may not
    # suffice for extreme slopes, so they get more.
    found = reach(lambda u: 0.05 * (u / at) ** exponent, 0.05, evaluations=12)
    assert abs(math.log(found / at)) <= 0.1 / exponent + 1e-6


def test_width_of_a_layer_of_many_weights_is_that_of_uniform_noise() -> None:
    count = 4000
    scape = landscape(lambda p: p["v"] / math.sqrt(count), {"v": [0.0] * count}, {"v": [1.0] * count})
    found = width(scape, scape.layers[0], reference(scape), tau=0.03)
    # E phi = u^2 / 3, so u = sqrt(3 tau); the noise's sample variance is known to 2 %, reach stops within 5 %.
    assert found.half_width == pytest.approx(math.sqrt(0.09), rel=0.08)
    assert found.grid_over_width == pytest.approx(1 / (2 * found.half_width), rel=EXACT)


def test_safe_bits_count_how_often_the_grid_may_be_coarsened() -> None:
    layer = river(VALLEY, 0, 1).layers[0]  # 4 bits, codes to 7
    # Half a step of the grid of b bits is 0.5 * 7 / (2^(b-1) - 1) of this grid's steps: 3.5, 1.17, 0.5, 0.23 ...
    assert [safe_bits(layer, u, 1.0, 1.0) for u in (3.6, 1.2, 0.51, 0.24, 0.001)] == [2, 3, 4, 5, None]
    # A quarter of tau for the layer halves the amplitude that it may have.
    assert safe_bits(layer, 1.2, 1.0, 0.25) == 4


def test_dither_finds_the_lower_grid_point() -> None:
    # Nearest to 0.4 is 0, and the altitude is that of 1: stochastic rounding draws it in two of five cases.
    scape = landscape(lambda p: 1 - p["v"], {"v": [0.4]}, {"v": [0.0]})
    scape = replace(scape, origin={"v": torch.tensor([0.4], dtype=torch.float64)})
    heights = dither(scape, reference(scape), activations=False, trials=20, seed=1)
    at_origin = 1 - 0.4
    assert {round(h, 6) for h in heights} == {round((at_origin - 1) ** 2, 6), round((at_origin - 0) ** 2, 6)}


def test_agreement_counts_changed_decisions_and_its_bound_is_clopper_pearsons() -> None:
    reference_, chosen = np.zeros((100, 1), np.int64), np.zeros((100, 1), np.int64)
    chosen[:3] = 1
    found = agreement(chosen, reference_)
    assert found.changed == 0.03
    # Tabulated: 3 of 100, one-sided 95 %.
    assert found.upper == pytest.approx(0.07571, abs=1e-5)
    assert clopper_pearson_upper(0, 100, 0.95) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-9)
    assert clopper_pearson_upper(100, 100, 0.95) == 1.0


def test_classes_divergence_is_kl_and_its_quadratic_form_is_the_fishers() -> None:
    z0, j = torch.tensor([[1.0, 0.0, -1.0], [0.2, 0.1, 3.0]]), torch.tensor([[0.3, -0.1, 0.5], [1.0, 0.0, -1.0]])
    divergence = Divergence("classes")
    p = torch.softmax(z0.double(), -1)
    q = torch.softmax((z0 + j).double(), -1)
    assert divergence((z0 + j,), (z0,)) == pytest.approx((p * (p / q).log()).sum(-1).numpy(), rel=1e-9)
    fisher = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    expected = 0.5 * torch.einsum("ni,nij,nj->n", j.double(), fisher, j.double())
    assert divergence.quadratic((z0,), (j,)) == pytest.approx(expected.numpy(), rel=1e-9)
    small = divergence((z0 + 1e-3 * j,), (z0,))
    # The next term is a thousandth of it.
    assert small == pytest.approx(1e-6 * expected.numpy(), rel=5e-3)


@given(temperature=st.floats(0.5, 64))
@settings(max_examples=20, deadline=None)
def test_a_temperature_divides_the_logits_and_keeps_the_gradients_size(temperature: float) -> None:
    z0, j = torch.tensor([[1.0, 0.0, -1.0], [0.2, 0.1, 3.0]]), torch.tensor([[0.3, -0.1, 0.5], [1.0, 0.0, -1.0]])
    hot, plain = Divergence("classes", temperature=temperature), Divergence("classes")
    expected = temperature**2 * plain(((z0 + j).double() / temperature,), (z0.double() / temperature,))
    assert hot((z0 + j,), (z0,)) == pytest.approx(expected.numpy(), rel=1e-6)
    small = Divergence("classes", temperature=temperature)((z0 + 1e-3 * j,), (z0,))
    assert small == pytest.approx(1e-6 * hot.quadratic((z0,), (j,)).numpy(), rel=1e-2)


def test_a_high_temperature_compares_all_logits_alike() -> None:
    z0, j = torch.tensor([[9.0, 0.0, -1.0]]), torch.tensor([[0.3, -0.1, 0.7]])
    centred = j.double() - j.double().mean()
    assert Divergence("classes", temperature=1e3)((z0 + j,), (z0,)) == pytest.approx(
        float(centred.square().mean() / 2),
        rel=1e-2,  # of order 9 / 1,000
    )


def test_tokens_divergence_is_the_mean_over_positions() -> None:
    z0 = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    z = z0 + 0.1
    z[:, 0, 0] += 1
    tokens, classes = Divergence("tokens"), Divergence("classes")
    flat = classes((z.flatten(0, 1),), (z0.flatten(0, 1),)).reshape(3, 5).mean(1)
    assert tokens((z,), (z0,)) == pytest.approx(flat.numpy(), rel=1e-9)


@given(shift=st.floats(-50, 50), scale=st.floats(1e-3, 30))
@settings(max_examples=40, deadline=None)
def test_divergence_is_never_negative_and_blind_to_a_shift_of_all_logits(shift: float, scale: float) -> None:
    z0 = torch.linspace(-1, 1, 12).reshape(3, 4)
    divergence = Divergence("classes")
    assert float(divergence((z0 * scale,), (z0,)).min()) >= -1e-12
    # float32 logits of size 50 carry 4e-6 of rounding.
    assert divergence((z0 + shift,), (z0,)) == pytest.approx(np.zeros(3), abs=1e-9)


def test_exponents_are_silent_where_the_altitude_is_rounding() -> None:
    found = local_exponents((0.5, 1.0, 2.0), np.array([1e-12, 1e-3, 4e-3]))
    assert math.isnan(found[0])
    assert found[1] == pytest.approx(2.0)


def test_a_path_that_is_not_finite_crosses_where_it_stops() -> None:
    assert crossing((0.5, 1.0), np.array([0.01, np.nan]), 0.05) == 1.0
    path = Path((0.5, 1.0), np.array([[0.01], [np.nan]]), None)
    assert math.isnan(path.exponent)
