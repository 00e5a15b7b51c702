"""What is recognized as a detector's post-processing, what is not, and that both files keep boxes and scores."""

from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import to_torch
from edgeq.plan.bits import Bits
from edgeq.plan.branches import too_different
from edgeq.plan.heads import post_processing
from edgeq.plan.plan import Unit
from edgeq.plan.rules import Request, decide
from edgeq.plan.units import group
from edgeq.plan.validate import validate

from ..detectors import Array, Decoding, detector, images
from ..graphs import graph_of, n, weights


def units_of(decoding: Decoding, **request: object) -> dict[str, Unit]:
    skeleton = decide(detector(decoding), Request(**request))  # type: ignore[arg-type]
    return {unit.name: unit for unit in skeleton.units}


@pytest.mark.parametrize(
    ("decoding", "floats", "mark"),
    [
        ("anchors", {"Mul_b2", "Add_boxes", "Sigmoid_scores"}, "a table of anchors"),
        ("chosen", {"Exp_e", "Mul_boxes", "Sigmoid_scores", "TopK_best"}, "Exp"),
        ("plain", set(), ""),
        ("logits", set(), ""),
    ],
)
def test_what_is_behind_the_heads(decoding: Decoding, floats: set[str], mark: str) -> None:
    graph = detector(decoding)
    found = post_processing(graph, group(graph))
    assert set(found) == floats
    assert all(f"({mark})" in reason for reason in found.values())


def test_the_reason_is_the_plans() -> None:
    units = units_of("anchors")
    assert units["Add_boxes"].reason == "post-processing behind the detection heads (a table of anchors), left in float"
    assert "joins 'boxes', which is float" in units["Concat_y"].reason
    assert all(units[key].integer for key in ("Conv_c", "Conv_b4", "Conv_s4", "Reshape_b3"))


def test_who_asks_for_integers_gets_them() -> None:
    units = units_of("anchors", overrides=[("Add_boxes", Bits(8, 8)), ("Mul_b2", Bits(8, 8))])
    assert units["Add_boxes"].integer
    assert units["Mul_b2"].integer
    assert not units["Sigmoid_scores"].integer


def test_a_classifier_has_no_post_processing() -> None:
    # A softmax, a temperature for each class, a position table before the last layer: none of it marks a head.
    constants = weights(w=(4, 3, 3, 3), f=(4, 100), t=(1, 100), p=(4, 6, 6))
    nodes = [
        n("Conv", "x w", "c"), n("Add", "c p", "a"), n("GlobalAveragePool", "a", "g"), n("Flatten", "g", "v"),
        n("MatMul", "v f", "m"), n("Mul", "m t", "s"), n("Softmax", "s"),
    ]  # fmt: skip
    graph = graph_of(nodes, constants)
    assert post_processing(graph, group(graph)) == {}


def test_heads_that_do_not_meet_are_judged_apart() -> None:
    constants = weights(w=(4, 3, 3, 3), v=(4, 3, 3, 3))
    nodes = [n("Conv", "x w", "c"), n("Conv", "x v", "d"), n("Exp", "c", "y"), n("Sigmoid", "d", "z")]
    graph = graph_of(nodes, constants, outputs="y z")
    assert set(post_processing(graph, group(graph))) == {"Exp_y"}


# Branches of a concatenation.


def test_a_prescribed_grid_is_not_forced_on_its_neighbour() -> None:
    units = units_of("plain")
    assert units["Sigmoid_scores"].integer
    assert "joins the output of Sigmoid, whose grid is prescribed" in units["Concat_y"].reason


def test_two_prescribed_grids_do_not_meet_either() -> None:
    nodes = [n("Conv", "x w", "c"), n("Sigmoid", "c", "s"), n("Tanh", "c", "t"), n("Concat", "s t", axis=1)]
    skeleton = decide(graph_of(nodes, weights(w=(4, 3, 3, 3))), Request())
    assert [unit.integer for unit in skeleton.units] == [True, True, True, False]
    assert {skeleton.fixed[skeleton.groups[v]].scale.item() for v in "st"} == {1 / 256, 1 / 128}


def test_scores_of_one_kind_share_their_grid() -> None:
    nodes = [n("Conv", "x w", "c"), n("Sigmoid", "c", "s"), n("MaxPool", "s", "m", kernel_shape=[1, 1])]
    nodes += [n("Sigmoid", "m", "t"), n("Concat", "m t", axis=1)]
    skeleton = decide(graph_of(nodes, weights(w=(4, 3, 3, 3))), Request())
    assert all(unit.integer for unit in skeleton.units)


EXTREMES = {"boxes": (0.0, 640.0), "scores": (-3.0, 3.0)}


def test_branches_of_very_different_ranges_are_kept_apart() -> None:
    graph = detector("logits")
    skeleton = decide(graph, Request())
    assert all(unit.integer for unit in skeleton.units)
    names = [unit.name for unit in skeleton.units if unit.op == "Concat"]
    branches = next(unit.inputs for unit in skeleton.units if unit.op == "Concat")
    found = too_different(graph, skeleton, dict(zip(branches, EXTREMES.values(), strict=True)))
    assert list(found) == names
    assert "differ in range by a factor of 107" in found[names[0]]
    apart = decide(graph, Request(), found)
    assert [unit.op for unit in apart.units if not unit.integer] == ["Concat"]
    close = dict(zip(branches, [(0.0, 11.9), (-1.0, 2.0)], strict=True))
    assert too_different(graph, skeleton, close) == {}


def test_what_a_layer_reads_goes_on_one_grid_anyhow() -> None:
    constants = weights(w=(4, 3, 3, 3), v=(4, 3, 3, 3), u=(2, 8, 1, 1))
    nodes = [n("Conv", "x w", "c"), n("Conv", "x v", "d"), n("Concat", "c d", "k", axis=1), n("Relu", "k", "r")]
    graph = graph_of([*nodes, n("Conv", "r u")], constants)
    assert too_different(graph, decide(graph, Request()), {"c": (0, 100), "d": (0, 1)}) == {}


# Deployed.


@pytest.mark.parametrize("decoding", get_args(Decoding))
def test_boxes_and_scores_survive_in_both_runtimes(decoding: Decoding) -> None:
    graph, x = detector(decoding), images(32)
    module = to_torch(graph)
    skeleton = decide(graph, Request())
    concat = next(unit for unit in skeleton.units if unit.op == "Concat")
    if concat.integer:
        seen = observe(module, [(torch.from_numpy(x),)], _each(skeleton, concat.inputs)).extremes
        skeleton = decide(graph, Request(), too_different(graph, skeleton, seen))
    plan = nearest(graph, skeleton, observe(module, [(torch.from_numpy(x),)], skeleton))
    validate(graph, plan)
    with torch.no_grad():
        found = module(torch.from_numpy(x))
    real = (found[0] if isinstance(found, tuple) else found).numpy()
    session = onnxruntime.InferenceSession(onnx_format.export(graph, plan), providers=["CPUExecutionProvider"])
    built = tflite_format.build(graph, plan, io="float32")
    runner = Interpreter(model_content=built.data, num_threads=1).get_signature_runner("serving_default")
    order, back = built.layouts["x"], np.argsort(built.layouts["y"])
    litert = [runner(x=np.ascontiguousarray(each[None].transpose(order)))["y"].transpose(back) for each in x]
    for deployed in (session.run(["y"], {"x": x})[0], np.concatenate(litert)):
        for part in (slice(0, 4), slice(4, None)):
            # Two int8 layers in a row leave one to two percent; a shared grid left all of the scores, or of the boxes.
            assert _error(deployed[:, part], real[:, part]) < 0.05


def _each(skeleton: object, values: tuple[str, ...]) -> object:
    from dataclasses import replace

    return replace(skeleton, groups={value: value for value in values}, fixed={}, clamps={})  # type: ignore[type-var]


def _error(found: Array, real: Array) -> float:
    return float(np.sqrt(np.mean((found - real) ** 2)) / real.std())
