"""Modules of the kinds that people train, from the factory's export to both files: what runs is what was simulated."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch import nn

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.exporters import onnx as onnx_format
from edgeq.exporters import tflite as tflite_format
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.passes import clean
from edgeq.graph.sources.pytorch import export_module
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide
from edgeq.simulate import IntegerSimulation
from edgeq.simulate.kernels import family

from ..graph.test_torch_models import MODELS

Array = npt.NDArray[Any]
SAMPLES = 24


@cache
def quantized(kind: str) -> tuple[Graph, Plan, tuple[torch.Tensor, ...], Array]:
    """Graph, plan, one input of all samples, and what the original module gives."""
    torch.manual_seed(0)
    build, make = MODELS[kind]
    module, example = build().eval(), make()
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):  # statistics as after training
                layer.running_mean = torch.randn(layer.num_features) * 0.1
                layer.running_var = torch.rand(layer.num_features) + 0.5
        graph = clean(Graph(export_module(module, [example], kind)))
        inputs = torch.cat([make() for _ in range(SAMPLES // len(example))])
        expected = module(inputs).numpy()
    skeleton = decide(graph, Request())
    plan = nearest(graph, skeleton, observe(to_torch(graph), [(inputs,)], skeleton))
    return graph, plan, (inputs,), expected


def simulated(kind: str, kernels: str) -> Array:
    graph, plan, inputs, _ = quantized(kind)
    with torch.inference_mode():
        result: Array = IntegerSimulation(graph, plan, family(kernels))(*inputs).numpy()
    return result


def in_onnxruntime(graph: Graph, plan: Plan | None, inputs: tuple[torch.Tensor, ...]) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_format.export(graph, plan), options, providers=["CPUExecutionProvider"])
    result: Array = session.run(None, {name(graph.inputs[0]): inputs[0].numpy()})[0]
    return result


def in_litert(graph: Graph, plan: Plan | None, inputs: tuple[torch.Tensor, ...]) -> Array:
    built = tflite_format.build(graph, plan, io="float32")
    runner = Interpreter(model_content=built.data, num_threads=1).get_signature_runner()
    source, output = name(graph.inputs[0]), name(graph.outputs[0])
    kind = runner.get_input_details()[source]["dtype"]
    results = []
    for sample in inputs[0]:
        fed = np.ascontiguousarray(sample.numpy()[None].astype(kind).transpose(built.layouts[source]))
        results.append(runner(**{source: fed})[output].transpose(np.argsort(built.layouts[output])))
    return np.concatenate(results)


RUNTIMES = {"onnxruntime": in_onnxruntime, "xnnpack": in_litert}
#: Kinds whose integer share in ONNX Runtime is below 1, and why.
SHARES = {
    "encoder-decoder": (0.7, "ConvTranspose has no integer kernel there"),
    "LSTM tagger": (0.0, "a recurrent cell is float"),
    "GRU tagger": (0.0, "a recurrent cell is float"),
}


@pytest.mark.parametrize("kind", MODELS)
def test_both_files_keep_what_the_plan_says(kind: str) -> None:
    graph, plan, _, _ = quantized(kind)
    found: Mapping[str, Any] = {
        "onnx": onnx_format.audit(onnx_format.export(graph, plan), graph, plan, shapes(graph, to_torch(graph))),
        "tflite": tflite_format.audit(tflite_format.build(graph, plan).data, graph, plan),
    }
    for report in found.values():
        assert report.problems == ()
        assert report.integer_mac_share >= SHARES.get(kind, (1.0, ""))[0]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", MODELS)
def test_the_files_run_as_simulated(kind: str, runtime: str) -> None:
    graph, plan, inputs, expected = quantized(kind)
    found, wanted = RUNTIMES[runtime](graph, plan, inputs), simulated(kind, runtime)
    grid = plan.activations.get(name(graph.outputs[0]))
    # A float output of a float tail differs by roundings alone: a step is then a 255th of its range.
    step = float(grid.scale) if grid is not None else float(np.ptp(wanted)) / 255
    steps = np.abs(found.astype(np.float64) - wanted) / step
    if kind == "encoder-decoder":  # a float sum before a rounding, in another order: rounds the other way at times
        assert steps.max() < 1.5
        assert (steps > 0.5).mean() < 0.15
    else:
        assert steps.max() < 0.5
    noise = float(np.square(found - expected).sum() / np.square(expected).sum())
    assert 10 * np.log10(noise) < -20


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", MODELS)
def test_the_float_files_give_what_the_module_gives(kind: str, runtime: str) -> None:
    graph, _, inputs, expected = quantized(kind)
    # Both sides compute in float32 and add up in another order.
    np.testing.assert_allclose(RUNTIMES[runtime](graph, None, inputs), expected, rtol=2e-5, atol=2e-5)
