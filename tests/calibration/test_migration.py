"""Channels that are too uneven for one grid: evened out exactly, where it is worth it, and kept in both files."""

from typing import Any

import numpy as np
import pytest
import torch
from ai_edge_litert import interpreter as litert

from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.migration import migrated, migrations
from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan, Skeleton
from edgeq.plan.rules import Request, decide
from edgeq.plan.validate import validate
from edgeq.simulate import Simulation

from ..graphs import graph_of, n, weights

WIDTH = 16
X = torch.from_numpy(np.random.default_rng(0).normal(size=(96, 4, WIDTH)).astype(np.float32))
SAMPLES = [(part,) for part in X[:64].split(16)]
HELD_OUT = [(X[64:],)]


def transformer(
    outlier: float = 60.0, *, norm_outlier: float = 1.0, residual: bool = True, relu: bool = False
) -> Graph:
    """LayerNormalization, a layer with one huge channel, the residual, LayerNormalization, a layer."""
    drawn = weights(a=(WIDTH, WIDTH), p=(WIDTH,), b=(WIDTH, 8), q=(8,))
    drawn = {key: array / 4 for key, array in drawn.items()}
    drawn["a"][:, 3] *= outlier
    ones = np.ones(WIDTH, np.float32)
    gamma = ones.copy()
    gamma[5] *= norm_outlier
    nodes = [n("LayerNormalization", "x g z", "l", axis=-1), n("MatMul", "l a", "m"), n("Add", "m p", "d")]
    nodes += [n("Relu", "d", "e")] if relu else []
    made = "e" if relu else "d"
    nodes += [n("Add", f"{made} l", "s")] if residual else [n("Erf", made, "s")]
    nodes += [n("LayerNormalization", "s h z", "k", axis=-1), n("MatMul", "k b", "o"), n("Add", "o q", "y")]
    constants = drawn | {"g": gamma, "h": ones, "z": np.zeros(WIDTH, np.float32)}
    return graph_of(nodes, constants, ("n", 4, WIDTH), outputs="y")


def skeleton(graph: Graph, bits: str = "w8a8", **asked: Any) -> Skeleton:
    return decide(graph, Request(Bits.parse(bits), **asked))


def planned(graph: Graph, added: dict[str, str] | None = None) -> Plan:
    chosen = decide(graph, Request(), added or {})
    plan = nearest(graph, chosen, observe(to_torch(graph), SAMPLES, chosen))
    validate(graph, plan)
    return plan


def loss(graph: Graph, plan: Plan) -> float:
    return divergence(graph, plan, HELD_OUT, float_outputs(graph, HELD_OUT))


@pytest.mark.parametrize("relu", [False, True])
def test_a_huge_channel_of_an_output_that_float_ops_read(relu: bool) -> None:
    graph = transformer(relu=relu)
    found = migrations(graph, skeleton(graph), SAMPLES)
    outputs = [each for each in found if each.output]
    assert [each.value for each in outputs] == ["e" if relu else "d"]
    assert outputs[0].factors[3] == 1.0
    changed, added = migrated(graph, found)
    # Powers of two: the same function to the last bit.
    torch.testing.assert_close(to_torch(changed)(X), to_torch(graph)(X), rtol=0, atol=0)
    plan = planned(changed, added)
    assert all(not unit.integer for unit in plan.units if unit.name in added)
    assert sum(unit.integer for unit in plan.units) == sum(unit.integer for unit in planned(graph).units)
    assert loss(changed, plan) < 0.2 * loss(graph, planned(graph))


def test_a_huge_channel_of_an_input_is_shared_with_the_weights() -> None:
    graph = transformer(1.0, norm_outlier=40.0)
    found = migrations(graph, skeleton(graph), SAMPLES)
    assert ("l", False) in [(each.value, each.output) for each in found]
    found = tuple(each for each in found if each.value == "l")
    assert found[0].factors[5] < np.median(found[0].factors)
    changed, added = migrated(graph, found)
    torch.testing.assert_close(to_torch(changed)(X), to_torch(graph)(X), rtol=0, atol=0)
    # The residual reads the normalized value too: its readers on codes get one of their own.
    assert len(added) == 1
    assert loss(changed, planned(changed, added)) < 0.6 * loss(graph, planned(graph))


def test_a_normalization_that_only_layers_read_takes_the_factors_in() -> None:
    graph = transformer(1.0, norm_outlier=40.0, residual=False)
    found = [each for each in migrations(graph, skeleton(graph), SAMPLES) if not each.output]
    changed, added = migrated(graph, found)
    assert added == {}
    assert len(changed.nodes) == len(graph.nodes)
    torch.testing.assert_close(to_torch(changed)(X), to_torch(graph)(X), rtol=0, atol=0)
    assert loss(changed, planned(changed)) < 0.6 * loss(graph, planned(graph))


def test_the_files_hold_it_and_compute_it() -> None:
    graph = transformer()
    changed, added = migrated(graph, migrations(graph, skeleton(graph), SAMPLES))
    plan = planned(changed, added)
    with torch.no_grad():
        simulated = Simulation(changed, plan)(X[:8]).numpy()
    step = float(plan.activations["y"].scale)
    file = onnx_format.export(changed, plan)
    assert onnx_format.audit(file, changed, plan, shapes(changed, to_torch(changed))).problems == ()
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {"x": X[:8].numpy()})[0] - simulated).max() <= 1.01 * step
    written = tflite_format.build(changed, plan, io="float32")
    assert tflite_format.audit(written.data, changed, plan).problems == ()
    runner = litert.Interpreter(model_content=written.data).get_signature_runner()
    found = np.concatenate([runner(x=row[None])["y"] for row in X[:8].numpy()])
    # A LayerNormalization in float rounds otherwise in the last bit, which can move a code behind it.
    assert np.abs(found - simulated).max() <= 2.01 * step


@pytest.mark.parametrize(
    ("bits", "asked"),
    [("w8a16", {}), ("w8", {}), ("w8a8", {"per_channel": False})],
    ids=["16 bits", "weights", "tensor"],
)
def test_where_it_brings_nothing_or_does_harm_nothing_changes(bits: str, asked: dict[str, Any]) -> None:
    graph = transformer()
    assert migrations(graph, skeleton(graph, bits, **asked), SAMPLES) == ()


def test_even_channels_stay_as_they_are() -> None:
    graph = transformer(1.0)
    assert migrations(graph, skeleton(graph), SAMPLES) == ()


def test_a_dead_channel_and_a_dead_value_are_no_harm() -> None:
    graph = transformer()
    edited = graph.clone()
    import onnx_ir as ir

    for value in ("a", "p"):
        array = np.array(graph.constant(value))
        array[..., 7] = 0.0
        edited.value(value).const_value = ir.tensor(array, name=value)
    edited = Graph(edited.model)
    found = migrations(edited, skeleton(edited), SAMPLES)
    assert all(np.isfinite(each.factors).all() for each in found)
    changed, added = migrated(edited, found)
    assert np.isfinite(loss(changed, planned(changed, added)))


def test_a_weight_that_another_layer_reads_too_is_left_alone() -> None:
    nodes = [
        n("LayerNormalization", "x g z", "l", axis=-1), n("MatMul", "l a", "m"), n("Erf", "m", "s"),
        n("LayerNormalization", "s g z", "k", axis=-1), n("MatMul", "k a", "o"), n("Erf", "o", "y"),
    ]  # fmt: skip
    a = weights(a=(WIDTH, WIDTH))["a"]
    a[:, 3] *= 60
    constants = {"a": a, "g": np.ones(WIDTH, np.float32), "z": np.zeros(WIDTH, np.float32)}
    graph = graph_of(nodes, constants, ("n", 4, WIDTH), outputs="y")
    assert migrations(graph, skeleton(graph), SAMPLES) == ()
