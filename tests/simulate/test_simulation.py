"""The differentiable simulation: its plan, what its parameters do, and that it can be trained."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeq.graph.execute import to_torch
from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.quantization import QuantizedConstant
from edgeq.plan.rules import Request
from edgeq.plan.store import dump
from edgeq.plan.validate import validate
from edgeq.simulate import IntegerSimulation, Simulation
from edgeq.simulate.kernels import family

from .networks import Network
from .test_kernels import BLOCK, CLIP, WEIGHTS, graph_of

X = np.random.default_rng(0).normal(size=(16, 3, 12, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> Callable[[str], Network]:
    rng = np.random.default_rng(1)
    constants = {key: (rng.normal(size=shape) * 0.5).astype(np.float32) for key, shape in WEIGHTS.items()} | CLIP
    graph = graph_of(BLOCK, {"x": ["n", 3, 12, 12]}, constants)
    return lambda bits: Network.of(graph, [X], Request(Bits.parse(bits)))


def run(module: torch.nn.Module) -> np.ndarray:
    with torch.no_grad():
        result: np.ndarray = module(torch.from_numpy(X)).numpy()
    return result


@pytest.mark.parametrize("bits", ["w8a8", "w4a8", "w2a8", "w8a16", "w4"])
def test_the_plan_of_an_untouched_simulation_is_the_plan(network: Callable[[str], Network], bits: str) -> None:
    made = network(bits)
    back = Simulation(made.graph, made.plan).plan()
    validate(made.graph, back)
    assert dump(back) == dump(made.plan)
    assert Simulation(made.graph, made.plan).plan("tuned").method == "tuned"


def test_codes_that_are_not_the_nearest_survive(network: Callable[[str], Network]) -> None:
    made = network("w4a8")
    weight = made.plan.weights["w1"]
    codes = np.clip(weight.codes + np.random.default_rng(0).integers(-1, 2, weight.codes.shape), -7, 7)
    plan = replace(made.plan, weights={**made.plan.weights, "w1": QuantizedConstant(codes, weight.quantization)})
    assert np.array_equal(Simulation(made.graph, plan).plan().weights["w1"].codes, codes)
    assert not np.array_equal(run(Simulation(made.graph, plan)), run(Simulation(made.graph, made.plan)))


def test_it_is_near_the_integer_kernels_and_near_the_float_model(network: Callable[[str], Network]) -> None:
    made = network("w8a8")
    simulated, real = run(Simulation(made.graph, made.plan)), run(to_torch(made.graph))
    step = float(made.plan.activations["y"].scale)
    for name in ("onnxruntime", "xnnpack"):
        exact = run(IntegerSimulation(made.graph, made.plan, family(name)))
        # Rounding differs by family: a step here and there, added up over the layers behind it.
        assert np.abs(simulated - exact).max() <= 4 * step
    assert 10 * np.log10(np.square(real).mean() / np.square(simulated - real).mean()) > 20


def test_switched_off_it_is_the_float_model(network: Callable[[str], Network]) -> None:
    made = network("w8a8")
    simulation = Simulation(made.graph, made.plan).enable(weights=False, activations=False)
    # A bias half way between two codes keeps the plan's: half a bias step (here 1e-4), a little more at the output.
    assert np.allclose(run(simulation), run(to_torch(made.graph)), rtol=1e-3, atol=1e-3)
    weights_only, activations_only = (
        run(Simulation(made.graph, made.plan).enable(weights=w, activations=not w)) for w in (True, False)
    )
    assert not np.array_equal(weights_only, activations_only)


def test_float_units_stay_float(network: Callable[[str], Network]) -> None:
    made = network("w8a8")
    rest = Network.of(made.graph, [X], Request(overrides=[("*", FLOAT)]))
    assert np.allclose(run(Simulation(rest.graph, rest.plan)), run(to_torch(made.graph)), rtol=1e-6, atol=1e-6)


def test_outputs_lie_on_the_grid(network: Callable[[str], Network]) -> None:
    made = network("w4a8")
    grid = made.plan.activations["y"]
    codes = run(Simulation(made.graph, made.plan)) / float(grid.scale)
    assert np.abs(codes - np.rint(codes)).max() < 1e-3
    assert len(np.unique(np.rint(codes))) <= 256


def test_training_lowers_the_loss_and_gives_a_valid_plan(network: Callable[[str], Network]) -> None:
    torch.manual_seed(0)
    made = network("w3a8")
    simulation, target = Simulation(made.graph, made.plan), torch.from_numpy(run(to_torch(made.graph)))
    latent = [weight.latent for weight in simulation.weights.values()]
    scales = [weight.scale for weight in simulation.weights.values()]
    for scale in scales:
        scale.requires_grad_()
    optimizer = torch.optim.Adam([{"params": latent, "lr": 3e-3}, {"params": scales, "lr": 1e-4}])
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.mse_loss(simulation(torch.from_numpy(X)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses[-5:]) < 0.7 * losses[0]
    plan = simulation.plan("trained")
    validate(made.graph, plan)
    assert dump(plan) != dump(made.plan)
    # What was trained is what is exported.
    assert np.allclose(
        run(Simulation(made.graph, plan)), run(simulation), atol=1.01 * float(plan.activations["y"].scale)
    )


def test_every_weight_and_bias_gets_a_gradient(network: Callable[[str], Network]) -> None:
    made = network("w4a8")
    simulation = Simulation(made.graph, made.plan)
    simulation(torch.from_numpy(X)).square().sum().backward()
    parameters = dict(simulation.named_parameters())
    wanting = [key for key, value in parameters.items() if value.requires_grad and value.grad is None]
    assert wanting == []
    assert sum(value.requires_grad for value in parameters.values()) == 10  # five layers
