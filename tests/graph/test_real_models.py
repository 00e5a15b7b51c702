"""Real models in their makers' state give in PyTorch what ONNX Runtime gives."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from edgeq.graph.execute import named_outputs, to_torch
from edgeq.graph.graph import name
from edgeq.graph.sources import load_model

ASSETS = Path(os.environ.get("EDGEQ_ASSETS", Path(__file__).parents[3] / "shared" / "assets"))
pytestmark = [pytest.mark.assets, pytest.mark.skipif(not ASSETS.is_dir(), reason="needs the real models")]

# Float32 on both sides, in other orders and with BatchNorm folded: relative to the largest output.
TOLERANCE = 1e-5
_SILERO = {"shapes": {"input": (1, 576), "state": (2, 1, 128)}, "constants": {"sr": 16000}}
MODELS: dict[str, dict[str, Any]] = {
    "ad_autoencoder/ad_autoencoder.onnx": {},
    "cifar_resnet_weights/resnet20.onnx": {},
    "cifar_resnet_weights/resnet56.onnx": {},
    "efficientnet_lite0/efficientnet_lite0.onnx": {},
    "kws_dscnn/kws_dscnn.onnx": {},
    "silero_vad/silero_vad.onnx": _SILERO,
    "silero_vad/silero_vad_16k_op15.onnx": _SILERO,
    "ultraface/version-RFB-320.onnx": {},
    "ultraface/version-RFB-320_without_postprocessing.onnx": {},
}


@pytest.mark.parametrize("model", MODELS)
def test_equals_onnx_runtime(model: str) -> None:
    options = MODELS[model]
    graph = load_model(ASSETS / model, **options)
    session_options = onnxruntime.SessionOptions()
    session_options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session_options.log_severity_level = 4
    session = onnxruntime.InferenceSession(ASSETS / model, session_options)
    random = np.random.default_rng(0)
    feed: dict[str, Any] = {}
    for value in session.get_inputs():
        if value.name in options.get("constants", {}):
            feed[value.name] = np.array(options["constants"][value.name], np.int64)
            continue
        shape = options.get("shapes", {}).get(value.name) or [d if isinstance(d, int) else 2 for d in value.shape]
        feed[value.name] = random.standard_normal(shape).astype(np.float32)
    expected = dict(zip((o.name for o in session.get_outputs()), session.run(None, feed), strict=True))
    with torch.no_grad():
        result = to_torch(graph)(*(torch.from_numpy(feed[name(value)]) for value in graph.inputs))
    for output, tensor in named_outputs(graph, result).items():
        largest = np.abs(expected[output]).max()
        np.testing.assert_allclose(tensor.numpy(), expected[output], rtol=0, atol=TOLERANCE * largest)


def test_every_onnx_model_of_the_assets_is_tested() -> None:
    assert {str(path.relative_to(ASSETS)) for path in ASSETS.rglob("*.onnx")} == MODELS.keys()


def test_silero_with_an_open_sampling_rate_is_refused_with_advice() -> None:
    from edgeq.errors import UnsupportedOpError

    graph = load_model(ASSETS / "silero_vad/silero_vad.onnx", shapes=_SILERO["shapes"])
    with pytest.raises(UnsupportedOpError, match=r"If .*fix the deciding input as a constant"):
        to_torch(graph)
