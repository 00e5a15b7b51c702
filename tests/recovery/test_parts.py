"""Latents, step sizes, oscillation and averaging, each against what its docstring promises."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.basin.divergence import Divergence
from edgeq.graph.execute import to_torch
from edgeq.plan.quantization import Quantization, QuantizedConstant
from edgeq.recovery.averaging import Average
from edgeq.recovery.latents import _in_cell
from edgeq.recovery.oscillation import Freezer
from edgeq.recovery.rates import Recipe, automatic_rate, groups, weight_unit
from edgeq.recovery.step_sizes import SMALLEST, bounds, gradient_scale
from edgeq.recovery.teacher import Lesson
from edgeq.recovery.trainer import Trainer
from edgeq.simulate import Simulation
from edgeq.simulate.fake_quantize import WeightQuantizer

from .models import digits


def quantizer(codes: np.ndarray, scale: np.ndarray, bits: int, real: torch.Tensor) -> WeightQuantizer:
    grid = Quantization(scale.astype(np.float32), np.zeros(len(scale), np.int64), bits, 0)
    return WeightQuantizer(QuantizedConstant(codes, grid), real)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 8), gain=st.floats(0.1, 10))
def test_latent_weights_round_to_the_plans_codes_whatever_chose_them(seed: int, bits: int, gain: float) -> None:
    random = np.random.default_rng(seed)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    codes = random.integers(low, high + 1, (4, 6))
    real = torch.from_numpy(random.normal(size=(4, 6)).astype(np.float32)) * gain
    q = quantizer(codes, random.uniform(0.01, 1, 4), bits, real)
    latent = _in_cell(q, real)
    q.latent.data.copy_(latent)
    assert np.array_equal(q.codes().numpy(), codes)


def test_latent_weights_of_a_rescaled_nearest_plan_are_the_float_weights_rescaled() -> None:
    torch.manual_seed(0)
    real = torch.randn(3, 200)
    step = real.abs().amax(1) / 7
    codes = torch.round(real / step[:, None]).clamp(-8, 7).numpy().astype(np.int64)
    q = quantizer(codes, (step * 1.7).numpy(), 4, real)
    latent = _in_cell(q, real)
    # The gain is found to a tenth of a percent; a weight nearer to a border than that may be moved into its cell.
    near = (latent - 1.7 * real).abs() <= 2e-3 * (1.7 * real).abs() + 1e-6
    assert float(near.float().mean()) > 0.98


def test_saturated_latent_weights_stay_outside_of_the_grid() -> None:
    real = torch.tensor([[0.1, -0.2, 0.3, 4.0, -5.0, 0.05]])
    q = quantizer(np.array([[0, -1, 1, 1, -2, 0]]), np.array([0.3]), 2, real)
    latent = _in_cell(q, real)
    assert float(latent[0, 3]) > 2 * 0.3
    assert float(latent[0, 4]) < -3 * 0.3


def test_scales_stay_positive_and_activation_grids_stay_under_their_clip() -> None:
    case = digits("w4a8")
    simulation = Simulation(case.graph, case.plan)
    held = bounds(simulation, case.plan)
    start = [b.scale.detach().clone() for b in held]
    for bound in held:
        bound.scale.data.fill_(-1.0)
        bound.hold()
    assert all(torch.allclose(b.scale, s * SMALLEST) for b, s in zip(held, start, strict=True))
    for bound in held:
        bound.scale.data.fill_(1e9)
        bound.hold()
    assert all(torch.isfinite(b.scale).all() and (b.scale < 1e9).all() for b in held)


def test_lsq_scales_the_gradient_as_published() -> None:
    assert gradient_scale(100, 7) == pytest.approx(1 / (100 * 7) ** 0.5)


def test_rates_are_measured_in_steps_and_fine_grids_in_steps_of_four_bits() -> None:
    case = digits("w4a8")
    simulation = Simulation(case.graph, case.plan)
    q = next(iter(simulation.weights.values()))
    assert weight_unit(q) == pytest.approx(float(q.scale.median()))
    fine = next(iter(Simulation(digits("w8a8").graph, digits("w8a8").plan).weights.values()))
    assert weight_unit(fine) == pytest.approx(float(fine.scale.median()) * 127 / 7)
    learning = groups(simulation, case.plan, Recipe(activations=0, scales=0, biases=0))
    assert [g.parameter for g in learning] == [q.latent for q in simulation.weights.values()]


def test_an_oscillating_weight_is_frozen_on_its_usual_code_and_a_steady_one_is_not() -> None:
    q = quantizer(np.array([[0, 0]]), np.array([1.0]), 4, torch.tensor([[0.4, 0.4]]))
    freezer = Freezer([q], threshold=0.3)
    for step in range(60):
        q.latent.data[0, 0] = 0.6 if step % 2 else 0.4
        q.latent.data[0, 1] = 0.4 + 0.02 * step
        freezer.after_step()
    assert freezer.frozen_share == 0.5
    frozen = q.latent.data[0, 0].clone()
    q.latent.data[0, 0] = 3.0
    freezer.after_step()
    assert torch.equal(q.latent.data[0, 0], frozen)
    assert q.codes()[0, 1] == 2


def test_a_freezer_goes_on_from_its_state() -> None:
    def fresh() -> tuple[WeightQuantizer, Freezer]:
        q = quantizer(np.array([[0, 0]]), np.array([1.0]), 4, torch.tensor([[0.4, 0.4]]))
        return q, Freezer([q], threshold=0.3)

    (one, first), (two, second) = fresh(), fresh()
    for step in range(60):
        if step == 25:
            kept = [t.clone() for t in second.state()]
            second = Freezer([two], threshold=0.3)
            second.load(kept)
        for q, freezer in ((one, first), (two, second)):
            q.latent.data[0, 0] = 0.6 if step % 2 else 0.4
            freezer.after_step()
    assert all(torch.equal(a, b) for a, b in zip(first.state(), second.state(), strict=True))


def test_the_average_forgets_the_start_and_gives_the_parameters_back() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3))
    average = Average([parameter], 0.9)
    for step in range(200):
        parameter.data.fill_(1.0)
        average.after_step(step)
    with average.applied():
        assert torch.allclose(parameter, torch.ones(3), atol=1e-6)
        parameter.data.fill_(7.0)
    assert torch.equal(parameter.data, torch.ones(3))


def test_features_are_compared_where_samples_are_few() -> None:
    assert Recipe().settled(100).features == 1.0
    assert Recipe().settled(100_000).features == 0.0
    assert Recipe().settled(None).features == 0.0
    assert Recipe(features=0.3).settled(None).features == 0.3


def test_a_run_four_times_as_long_goes_half_as_fast_and_short_ones_no_faster_than_the_limit() -> None:
    assert automatic_rate(1600, 0.1) == pytest.approx(automatic_rate(6400, 0.1) * 2)
    assert automatic_rate(1, 0.1) == automatic_rate(10, 0.1) == 0.012


def test_a_start_far_outside_of_the_basin_goes_faster() -> None:
    assert automatic_rate(1600, 0.25) == automatic_rate(1600, 0.0)
    assert automatic_rate(1600, 1.0) == pytest.approx(2 * automatic_rate(1600, 0.25))


def test_the_loss_is_the_sum_over_the_temperatures() -> None:
    case = digits("w2a8")
    batch = case.train[:8]
    lesson = Lesson((to_torch(case.graph)(batch),))

    def first_loss(*temperatures: float) -> float:
        recipe = Recipe(temperatures=temperatures)
        trainer = Trainer(case.graph, case.plan, recipe, Divergence("classes"), torch.device("cpu"))
        return trainer.update(0, (batch,), lesson, 0.0)

    assert first_loss(1.0, 8.0) == pytest.approx(first_loss(1.0) + first_loss(8.0), rel=1e-9)
    assert first_loss(8.0) > first_loss(1.0) > 0


def test_fine_activations_stay_real_while_training_and_are_on_their_grids_when_scored() -> None:
    case = digits("w2a8")
    trainer = Trainer(case.graph, case.plan, Recipe(average=0), Divergence("classes", ()), torch.device("cpu"))
    quantizers = [q for _, q in trainer.simulation.activations()]
    seen: list[bool] = []
    quantizers[0].register_forward_hook(lambda module, *_: seen.append(module.enabled))
    wanted = to_torch(case.graph)(case.train[:8])
    trainer.update(0, (case.train[:8],), Lesson((wanted,)), 0.001)
    trainer.outputs((case.train[:8],))
    assert seen == [False, True]
    assert all(q.enabled for q in quantizers)
    assert all(q.scale.grad is None for q in quantizers)
