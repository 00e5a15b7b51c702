"""Real models for the tests that are marked to need them."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

from edgeq.graph.graph import Graph
from edgeq.graph.sources.load import load_model

ASSETS = Path(os.environ.get("EDGEQ_ASSETS", Path(__file__).resolve().parents[3] / "shared" / "assets"))


@pytest.fixture(scope="session")
def keywords() -> tuple[Graph, torch.Tensor]:
    """The depthwise keyword spotter and its samples."""
    if not (ASSETS / "load.py").is_file():
        pytest.skip("no assets")
    spec = importlib.util.spec_from_file_location("edgeq_assets_load", ASSETS / "load.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return load_model(ASSETS / "kws_dscnn" / "kws_dscnn.onnx"), torch.from_numpy(module.keywords()[0])
