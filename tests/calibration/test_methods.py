"""The contract that every method keeps, over the tuple of methods."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from edgeq.calibration.blocks import blocks
from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.methods import METHODS, Method, method
from edgeq.calibration.ranges import observe
from edgeq.calibration.repair import better, repair
from edgeq.errors import DataError, UsageError
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.plan.quantization import LARGEST_BIAS
from edgeq.plan.store import dump
from edgeq.plan.validate import validate

from .networks import convolutions, images, skeleton

GRAPH = convolutions()
SAMPLES = [(part,) for part in torch.from_numpy(images(192)).split(32)]
HELD_OUT = [(torch.from_numpy(images(64, seed=9)),)]
REFERENCE = float_outputs(GRAPH, HELD_OUT)


def planned(made: Method, bits: str = "w3a8", graph: Graph = GRAPH, **options: bool) -> Plan:
    chosen = skeleton(graph, bits, **options)
    return made(graph, chosen, observe(to_torch(graph), SAMPLES, chosen), SAMPLES)


@pytest.fixture(scope="module", params=METHODS, ids=lambda m: m.name)
def each(request: pytest.FixtureRequest) -> Method:
    found = request.param
    assert isinstance(found, Method)
    return found


@pytest.mark.parametrize(("bits", "per_channel"), [("w2a8", True), ("w4a8", False), ("w8a16", True), ("w4a4", True)])
def test_the_plan_keeps_its_written_spec(each: Method, bits: str, per_channel: bool) -> None:
    plan = planned(each, bits, per_channel=per_channel)
    validate(GRAPH, plan)
    for constant in plan.weights.values():
        assert constant.quantization.axis == (0 if per_channel else None)
        assert constant.quantization.narrow


def test_the_same_input_gives_the_same_codes(each: Method) -> None:
    first, second = planned(each), planned(each)
    for value, constant in first.weights.items():
        np.testing.assert_array_equal(constant.codes, second.weights[value].codes)
        np.testing.assert_array_equal(constant.quantization.scale, second.weights[value].quantization.scale)
    for name, bias in first.biases.items():
        np.testing.assert_array_equal(bias.codes, second.biases[name].codes)


def test_an_interrupted_run_goes_on_after_the_layers_that_were_done() -> None:
    made, stored, computed = method("gptq+variance"), {}, []
    chosen = skeleton(GRAPH, "w3a8")
    ranges = observe(to_torch(GRAPH), SAMPLES, chosen)

    def store(key: str, compute: Callable[[], bytes]) -> bytes:
        if key not in stored:
            if len(stored) == 2 and not computed:
                raise KeyboardInterrupt
            stored[key] = compute()
        else:
            computed.append(key)
        return stored[key]

    with pytest.raises(KeyboardInterrupt):
        made(GRAPH, chosen, ranges, SAMPLES, store=store)
    resumed = made(GRAPH, chosen, ranges, SAMPLES, store=store)
    assert len(computed) == 2
    assert dump(resumed) == dump(made(GRAPH, chosen, ranges, SAMPLES))


def test_no_method_is_worse_than_nearest_at_low_bits(each: Method) -> None:
    found, base = (divergence(GRAPH, planned(m, "w3a8"), HELD_OUT, REFERENCE) for m in (each, METHODS[0]))
    assert found <= base * 1.001


def test_eight_bits_stay_next_to_float(each: Method) -> None:
    # The float model's outputs on these samples have a standard deviation near one.
    assert divergence(GRAPH, planned(each, "w8a8"), HELD_OUT, REFERENCE) < 1e-3


def test_weight_only_plans_have_no_biases(each: Method) -> None:
    plan = planned(each, "w4")
    validate(GRAPH, plan)
    assert set(plan.weights) == {"w1", "w2", "w3", "w4"}
    assert not plan.biases


def test_dead_and_faint_channels_survive(each: Method) -> None:
    graph = convolutions()
    weights = {name: graph.constant(name) for name in ("w1", "w2", "w3")}
    edited = graph.clone()
    for name, array in weights.items():
        assert array is not None
        changed = array.copy()
        changed[1] = 0.0
        changed[2] *= 1e-9
        edited.value(name).const_value = _tensor(changed, name)
    plan = planned(each, "w4a8", edited)
    validate(edited, plan)
    for constant in plan.weights.values():
        scale = constant.quantization.scale
        assert scale.min() >= scale.max() * 2.0**-21
    for bias in plan.biases.values():
        assert np.abs(bias.codes).max() <= LARGEST_BIAS


def _tensor(array: np.ndarray, name: str) -> "object":
    import onnx_ir as ir

    return ir.tensor(array, name=name)


def test_samples_are_needed_where_they_are(each: Method) -> None:
    chosen = skeleton(GRAPH)
    ranges = observe(to_torch(GRAPH), SAMPLES, chosen)
    if each.rounding is None:
        assert each(GRAPH, chosen, ranges).method == each.name
    else:
        with pytest.raises(DataError, match="no calibration samples"):
            each(GRAPH, chosen, ranges)


def test_progress_names_every_unit_or_block(each: Method) -> None:
    if each.rounding is None:
        return
    told: list[tuple[str, int, int]] = []
    chosen = skeleton(GRAPH)
    each(GRAPH, chosen, observe(to_torch(GRAPH), SAMPLES, chosen), SAMPLES, progress=lambda *a: told.append(a))
    parts = [b.name for b in blocks(GRAPH, chosen)] if each.reconstruct else [str(unit.name) for unit in chosen.units]
    assert told == [(name, done, len(parts)) for done, name in enumerate(parts, 1)]


def test_an_unknown_method_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match="choose one of nearest, bias"):
        method("magic")


def test_second_order_beats_first_order() -> None:
    measured = {m.name: divergence(GRAPH, planned(m, "w2a8"), HELD_OUT, REFERENCE) for m in METHODS}
    assert measured["gptq"] < 0.5 * measured["nearest"]
    assert measured["bias"] < measured["nearest"]


def test_the_repair_keeps_codes_and_helps_a_collapsed_model() -> None:
    plan = planned(METHODS[0], "w2a8")
    repaired = repair(GRAPH, plan, SAMPLES)
    validate(GRAPH, repaired)
    for value, constant in plan.weights.items():
        np.testing.assert_array_equal(constant.codes, repaired.weights[value].codes)
    best, measured = better(GRAPH, [plan, repaired], HELD_OUT)
    assert best is repaired
    assert measured[1] < 0.8 * measured[0]


def test_the_guard_keeps_the_better_plan_and_the_first_of_equals() -> None:
    good, bad = planned(METHODS[0], "w8a8"), planned(METHODS[0], "w2a8")
    assert better(GRAPH, [bad, good], HELD_OUT)[0] is good
    assert better(GRAPH, [good, good, bad], HELD_OUT)[0] is good
