"""The simulation as a landscape, and the repair, against the simulation and the float model themselves."""

import numpy as np
import pytest
import torch

from edgeq.basin.divergence import altitude, refer
from edgeq.basin.lockstep import taken
from edgeq.basin.probe import codes, latent_point, rounded
from edgeq.basin.repair import repair
from edgeq.basin.simulated import landscape_of
from edgeq.errors import PlanError
from edgeq.graph.execute import to_torch
from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide
from edgeq.simulate import Simulation

from . import demo


@pytest.mark.parametrize("bits", ["w8a8", "w3", "w4a8"])
def test_the_path_begins_at_the_float_model_and_ends_at_the_simulation(bits: str) -> None:
    landscape, _ = landscape_of(demo.graph(), demo.plan(bits))
    (x,) = demo.batches("evaluation", 0, 32)[0]
    with torch.no_grad():
        start = landscape.run(landscape.at(0.0), (x,), 0.0)[0]
        end = landscape.run(landscape.at(1.0), (x,), 1.0)[0]
        expected_start = to_torch(demo.graph())(x)
        expected_end = Simulation(demo.graph(), demo.plan(bits))(x)
    assert torch.equal(start, expected_start)
    # w0 + (q - w0) differs from q by rounding of float32, which can move an activation by one of its steps.
    assert float((end - expected_end).abs().max()) <= 0.05 * float(expected_end.abs().max())
    with torch.no_grad():
        exact = landscape.run(landscape.deployed, (x,), 1.0)[0]
    assert torch.allclose(exact, expected_end, rtol=0, atol=1e-5)


def test_layers_carry_the_users_names_and_grids() -> None:
    landscape, _ = landscape_of(demo.graph(), demo.plan("w3a8"))
    assert len({layer.name for layer in landscape.layers}) == len(landscape.layers)
    for layer in landscape.layers:
        steps = landscape.deployed[layer.weight] / layer.step
        assert layer.bits == 3
        assert torch.allclose(steps, steps.round(), atol=1e-4)


def test_a_plan_without_quantized_weights_has_no_basin() -> None:
    skeleton = decide(demo.graph(), Request(FLOAT))
    with pytest.raises(PlanError, match="no layer's weights are quantized"):
        landscape_of(demo.graph(), Plan(skeleton, {}, {}, {}))


@pytest.mark.parametrize("bits", ["w2", "w3a8"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_the_repair_lowers_a_collapsed_candidate_and_stays_on_its_grid(bits: str, per_channel: bool) -> None:
    landscape, model = landscape_of(demo.graph(), demo.plan(bits, per_channel))
    fixed = repair(model, landscape, demo.batches("train", 0, 256))
    reference = refer(landscape, demo.batches("evaluation", 0, 128))
    blend = 1.0 if landscape.activations else 0.0
    before, after = (float(altitude(c, c.deployed, reference, blend)[0].mean()) for c in (landscape, fixed))
    assert after < before
    for layer, original in zip(fixed.layers, landscape.layers, strict=True):
        assert layer.step.numel() == original.step.numel()
        kept = fixed.deployed[layer.weight] / layer.step
        assert torch.allclose(kept, landscape.deployed[layer.weight] / original.step, atol=1e-3)


def test_the_repair_undoes_exactly_what_is_only_a_shift() -> None:
    # 8 bits change nothing else: scaled and shifted layers must come back.
    landscape, model = landscape_of(demo.graph(), demo.plan("w8"))
    broken = dict(landscape.deployed)
    for layer in landscape.layers:
        broken[layer.weight] = broken[layer.weight] * 0.6
        if layer.bias is not None:
            broken[layer.bias] = broken[layer.bias] + 0.3
    from dataclasses import replace

    layers = tuple(replace(layer, step=layer.step * 0.6) for layer in landscape.layers)
    damaged = replace(landscape, deployed=broken, layers=layers)
    reference = refer(landscape, demo.batches("evaluation", 0, 128))
    fixed = repair(model, damaged, demo.batches("train", 0, 256))
    before, after = (float(altitude(c, c.deployed, reference, 0.0)[0].mean()) for c in (damaged, fixed))
    assert before > 0.1
    assert after < 0.01


def test_latent_weights_round_to_the_candidate() -> None:
    landscape, model = landscape_of(demo.graph(), demo.plan("w3", False))
    for state in (landscape, repair(model, landscape, demo.batches("train", 0, 128))):
        latent = latent_point(state)
        deployed = rounded(state, latent)
        for layer in state.layers:
            assert torch.allclose(deployed[layer.weight], state.deployed[layer.weight], atol=1e-5)
        flat = np.concatenate([c.numpy().ravel() for c in codes(state, latent).values()])
        assert flat.min() >= -3
        assert flat.max() <= 3


def test_bits_wider_than_the_probe_needs_leave_the_float_decisions() -> None:
    landscape, _ = landscape_of(demo.graph(), demo.plan("w8"))
    reference = refer(landscape, demo.batches("evaluation", 0, 64))
    phi, decisions = altitude(landscape, landscape.origin, reference, 0.0)
    assert float(phi.abs().max()) == 0.0
    assert decisions is not None
    assert reference.divergence.task == "classes"
    assert Bits.parse("w8").weights == landscape.layers[0].bits


def test_the_fewest_bits_count_activations_too() -> None:
    # Chance level with 8-bit weights and 4-bit activations is the grid's doing, not a fault.
    bits = {text: landscape_of(demo.graph(), demo.plan(text))[0].least_bits for text in ("w8a4", "w8a8", "w3a8", "w8")}
    assert bits == {"w8a4": 4, "w8a8": 8, "w3a8": 3, "w8": 8}


def test_batches_in_step_are_as_one_batch() -> None:
    landscape, model = landscape_of(demo.graph(), demo.plan("w2a8"))
    parts = demo.batches("train", 0, 96)
    joined = [(torch.cat([x for (x,) in parts]),)]
    a, b = (repair(model, landscape, batches) for batches in (parts, joined))
    for name, value in a.deployed.items():
        # Sums in another order.
        assert torch.allclose(value, b.deployed[name], rtol=1e-3, atol=1e-4)


def test_a_memory_limit_leaves_batches_out_and_not_the_first() -> None:
    batches = demo.batches("train", 0, 96)
    assert [len(taken(batches, most)) for most in (1, 32, 64, 95, 1000)] == [1, 1, 2, 2, 3]
