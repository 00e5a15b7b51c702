"""Inputs with the channels last: which are images, and that the file computes the same numbers."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.exporters.onnx import audit, export, image_inputs
from edgeq.graph.execute import shapes, to_torch
from edgeq.plan.rules import Request, decide

from ...graphs import graph_of, n, weights

NODES = [n("Relu", "x", "r"), n("Conv", "r w b", "c"), n("GlobalAveragePool", "c", "g"), n("Flatten", "g")]
CONSTANTS = weights(w=(4, 3, 3, 3), b=(4,))


def run(data: bytes, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


@pytest.mark.parametrize("integer", [False, True])
def test_the_same_numbers_from_images_with_the_channels_last(integer: bool) -> None:
    graph = graph_of(NODES, CONSTANTS)
    x = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    plan = None
    if integer:
        skeleton = decide(graph, Request())
        plan = nearest(graph, skeleton, observe(to_torch(graph), [(torch.from_numpy(x),)], skeleton))
    first, last = (export(graph, plan, layout=layout) for layout in ("NCHW", "NHWC"))
    given = onnx.load_model_from_string(last).graph.input[0]
    assert [d.dim_value or d.dim_param for d in given.type.tensor_type.shape.dim] == ["n", 8, 8, 3]
    np.testing.assert_array_equal(run(last, np.ascontiguousarray(x.transpose(0, 2, 3, 1))), run(first, x))
    if plan is not None:
        found = audit(last, graph, plan, shapes(graph, to_torch(graph)))
        assert found.problems == ()
        assert found.integer_mac_share == 1.0


def test_what_is_an_image() -> None:
    assert image_inputs(graph_of(NODES, CONSTANTS)) == {"x": (0, 2, 3, 1)}
    # Tokens by features are no image, though they have three axes; nor is what a transpose has turned.
    assert image_inputs(graph_of([n("MatMul", "x m")], weights(m=(8, 2)), ("n", 4, 8))) == {}
    turned = [n("Transpose", "x", "t", perm=[0, 3, 1, 2]), n("Conv", "t w b")]
    assert image_inputs(graph_of(turned, CONSTANTS, ("n", 8, 8, 3))) == {}
    audio = graph_of([n("Conv", "x v")], weights(v=(4, 3, 3)), ("n", 3, 8))
    assert image_inputs(audio) == {"x": (0, 2, 1)}
