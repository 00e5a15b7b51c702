"""Models of more than one file: constants beside the model, read without a copy, and never written over."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import Ranges
from edgeq.errors import ModelError, OutputError
from edgeq.exporters.onnx import export, save
from edgeq.exporters.onnx import export as export_module
from edgeq.graph.graph import Graph
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.rules import Request, decide

from ...graphs import graph_of, n, weights

X = np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32)


def model() -> Graph:
    return graph_of(
        [n("MatMul", "x a", "h"), n("Relu", "h", "r"), n("MatMul", "r b")], weights(a=(64, 96), b=(96, 8)), ("n", 64)
    )


def run(path: Path) -> np.ndarray:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": X})[0]


@pytest.mark.parametrize("beside", [False, True, None])
def test_a_saved_model_is_read_and_computes_the_same(tmp_path: Path, beside: bool | None) -> None:
    graph = model()
    save(graph, None, tmp_path / "model.onnx", beside=beside)
    assert (tmp_path / "model.onnx.data").is_file() == bool(beside)
    loaded = load_model(tmp_path / "model.onnx")
    (tmp_path / "whole.onnx").write_bytes(export(graph, None))
    np.testing.assert_array_equal(run(tmp_path / "model.onnx"), run(tmp_path / "whole.onnx"))
    assert export(loaded, None) == export(graph, None)


def test_a_plan_made_from_constants_beside_the_model_is_the_same(tmp_path: Path) -> None:
    save(model(), None, tmp_path / "model.onnx", beside=True)
    files = []
    for graph in (model(), load_model(tmp_path / "model.onnx")):
        plan = nearest(graph, decide(graph, Request(Bits(8, None))), Ranges({}, {}, 0, "none"))
        assert {constant.codes.dtype for constant in plan.weights.values()} == {np.dtype(np.int8)}
        files.append(export(graph, plan))
    assert files[0] == files[1]


def test_the_constants_that_are_read_are_not_written_over(tmp_path: Path) -> None:
    save(model(), None, tmp_path / "model.onnx", beside=True)
    before = (tmp_path / "model.onnx.data").read_bytes()
    with pytest.raises(OutputError, match="own constants lie there"):
        save(load_model(tmp_path / "model.onnx"), None, tmp_path / "model.onnx", beside=True)
    assert (tmp_path / "model.onnx.data").read_bytes() == before


def test_one_file_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(export_module.__globals__, "_LARGEST", 10_000)
    with pytest.raises(ModelError, match=r"one ONNX file holds less than 2,048; .*save writes them beside"):
        export(model(), None)
    save(model(), None, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size >= 4 * (64 * 96 + 96 * 8)
    assert len(onnx.load(tmp_path / "model.onnx").graph.initializer) == 2


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="choose another place"):
        save(model(), None, tmp_path / "absent" / "model.onnx")
