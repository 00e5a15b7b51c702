"""Real trained models: float equal to ONNX Runtime, integer as accurate, nothing left over."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edgeq.calibration.nearest import nearest
from edgeq.calibration.observers import BY_NAME
from edgeq.calibration.ranges import observe
from edgeq.exporters.tflite import Export, audit, build, read
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.sources.load import load_model
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide

from .single_op import run

ASSETS = Path(os.environ.get("EDGEQ_ASSETS", Path(__file__).parents[4] / "shared" / "assets"))
pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif(not ASSETS.exists(), reason="needs the real models and data (EDGEQ_ASSETS)"),
]


@pytest.fixture(scope="module")
def data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("asset_data", ASSETS / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _plan(graph: Graph, samples: np.ndarray) -> Plan:
    skeleton = decide(graph, Request())
    size = 32 if isinstance(graph.inputs[0].shape[0], ir.SymbolicDim) else 1
    batches = [(torch.from_numpy(samples[i : i + size]),) for i in range(0, len(samples), size)]
    return nearest(graph, skeleton, observe(to_torch(graph), batches, skeleton, BY_NAME["mse"]))


def _onnxruntime(path: Path, inputs: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rows = [session.run(None, {"input": inputs[i : i + 1]}) for i in range(len(inputs))]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def _outputs(written: Export, inputs: np.ndarray) -> list[np.ndarray]:
    rows = [list(run(written, {"input": inputs[i : i + 1]}).values()) for i in range(len(inputs))]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


MODELS = (
    "cifar_resnet_weights/resnet20.onnx",
    "cifar_resnet_weights/resnet56.onnx",
    "efficientnet_lite0/efficientnet_lite0.onnx",
    "kws_dscnn/kws_dscnn.onnx",
    "ad_autoencoder/ad_autoencoder.onnx",
    "ultraface/version-RFB-320.onnx",
    "ultraface/version-RFB-320_without_postprocessing.onnx",
)


@pytest.mark.parametrize("model", MODELS)
def test_float_file_equals_onnxruntime(model: str) -> None:
    graph = load_model(ASSETS / model)
    written = build(graph, None)
    assert written.notes == ()
    shape = [1 if not isinstance(d, int) else d for d in graph.inputs[0].shape]
    inputs = np.random.default_rng(0).normal(size=(2, *shape[1:])).astype(np.float32)
    expected = dict(zip((v.name for v in graph.outputs), _onnxruntime(ASSETS / model, inputs), strict=True))
    for index in range(len(inputs)):
        for key, found in run(written, {"input": inputs[index : index + 1]}).items():
            # Tens of layers of float sums in another order.
            np.testing.assert_allclose(found, expected[key][index : index + 1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_integer_file_holds_its_plan(model: str) -> None:
    graph = load_model(ASSETS / model)
    shape = [1 if not isinstance(d, int) else d for d in graph.inputs[0].shape]
    plan = _plan(graph, np.random.default_rng(0).normal(size=(4, *shape[1:])).astype(np.float32))
    written = build(graph, plan)
    report = audit(written.data, graph, plan)
    assert report.problems == ()
    assert report.integer_mac_share == 1.0
    assert "TRANSPOSE" not in {operator.code for operator in read(written.data).operators}
    run(written, {k: np.zeros([read(written.data).tensors[i].shape[a] for a in np.argsort(written.layouts[k])], np.int8)
                  for k, i in read(written.data).inputs.items()})  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("model", "load", "calibrate", "evaluate"), [
    ("cifar_resnet_weights/resnet20.onnx", "cifar10", 256, 500),
    ("kws_dscnn/kws_dscnn.onnx", "keywords", 200, 500),
])  # fmt: skip
def test_integer_accuracy(data: ModuleType, model: str, load: str, calibrate: int, evaluate: int) -> None:
    x, y = getattr(data, load)()
    order = np.random.default_rng(0).permutation(len(x))
    graph = load_model(ASSETS / model)
    plan = _plan(graph, x[order[:calibrate]])
    test = order[calibrate : calibrate + evaluate]
    written = build(graph, plan, io="float32")
    found = _outputs(written, x[test])[0].argmax(1)
    expected = _onnxruntime(ASSETS / model, x[test])[0].argmax(1)
    # On 500 samples half a point is 2.5 decisions; three allows for ties at the boundary.
    assert (expected == y[test]).sum() - (found == y[test]).sum() <= 3
    assert (found == expected).mean() > 0.97
