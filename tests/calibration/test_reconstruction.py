"""Blocks are where values are few; reconstruction is never worse on held-out samples, seeded, and can be resumed."""

import numpy as np
import pytest
import torch

from edgeq.calibration.blocks import blocks
from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.methods import method
from edgeq.calibration.ranges import observe
from edgeq.calibration.reconstruction import reconstruct
from edgeq.graph.execute import to_torch
from edgeq.plan.plan import Plan
from edgeq.plan.validate import validate

from .networks import convolutions, images, skeleton

GRAPH = convolutions()
SAMPLES = [(part,) for part in torch.from_numpy(images(256)).split(32)]
HELD_OUT = [(torch.from_numpy(images(128, seed=9)),)]


def started(bits: str) -> Plan:
    made = skeleton(GRAPH, bits)
    return method("gptq")(GRAPH, made, observe(to_torch(GRAPH), SAMPLES, made), SAMPLES)


def test_blocks_hold_every_unit_once_and_end_where_one_value_leaves() -> None:
    made = skeleton(GRAPH)
    found = blocks(GRAPH, made)
    assert [unit.name for block in found for unit in block.units] == [unit.name for unit in made.units]
    # conv1's output is read by the branch and by the addition: the residual block is one.
    residual = next(block for block in found if "add" in [unit.name for unit in block.units])
    assert {"depthwise", "pointwise", "add"} <= {unit.name for unit in residual.units}
    assert residual.inputs == ("r1",)
    assert all(len(block.outputs) == 1 for block in found)
    assert found[-1].outputs == ("y",)


@pytest.mark.parametrize(("bits", "most"), [("w2a8", 1.05), ("w4a4", 0.98), ("w3", 1.2)])
def test_the_model_comes_nearer_to_float_where_activations_are_few(bits: str, most: float) -> None:
    # At 2 bits GPTQ with variances has left little; blocks are judged on few samples, one by one.
    made = skeleton(GRAPH, bits)
    ranges = observe(to_torch(GRAPH), SAMPLES, made)
    reference = float_outputs(GRAPH, HELD_OUT)
    plans = [method(name)(GRAPH, made, ranges, SAMPLES) for name in ("gptq+variance", "brecq")]
    validate(GRAPH, plans[1])
    before, after = (divergence(GRAPH, plan, HELD_OUT, reference) for plan in plans)
    assert after < most * before


def test_what_does_not_help_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.calibration.soft_block.RATES", {"latent": 1.0, "scale": 1.0, "bias": 1.0, "step": 1.0})
    plan = started("w4a8")
    kept = reconstruct(GRAPH, plan, SAMPLES, steps=60)
    for value, constant in plan.weights.items():
        np.testing.assert_array_equal(constant.codes, kept.weights[value].codes)
        np.testing.assert_array_equal(constant.quantization.scale, kept.weights[value].quantization.scale)


def test_an_interrupted_run_goes_on_to_the_same_plan() -> None:
    plan, stored, made = started("w3a8"), {}, []

    def store(key, compute):  # type: ignore[no-untyped-def]
        if key not in stored:
            made.append(key)
            if len(made) == 2 and len(stored) == 1 and not resumed:
                raise KeyboardInterrupt
            stored[key] = compute()
        return stored[key]

    resumed = False
    with pytest.raises(KeyboardInterrupt):
        reconstruct(GRAPH, plan, SAMPLES, steps=20, store=store)
    resumed, made = True, []
    again = reconstruct(GRAPH, plan, SAMPLES, steps=20, store=store)
    assert len(made) == len(stored) - 1, "the first block was not computed anew"
    whole = reconstruct(GRAPH, plan, SAMPLES, steps=20)
    for value, constant in whole.weights.items():
        np.testing.assert_array_equal(constant.codes, again.weights[value].codes)
        np.testing.assert_array_equal(constant.quantization.scale, again.weights[value].quantization.scale)
