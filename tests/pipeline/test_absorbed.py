"""--method auto absorbs high biases where that is better on held-out samples, and keeps the model where it is not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq.calibration.absorption import absorb
from edgeq.pipeline.inputs import Model, Sets, open_model, open_profiles, open_sets, request
from edgeq.pipeline.options import Options
from edgeq.pipeline.quantize import Quantized, calibrate, quantize
from edgeq.plan.rules import decide
from edgeq.progress import SILENT
from edgeq.run_folder import RunFolder

HIDDEN, INPUTS, OUTPUTS = 12, 6, 5


def written(path: Path, high: float) -> Path:
    """Gemm, ReLU, Gemm; every other hidden channel has a high bias that the second layer's bias takes away again."""
    g = np.random.default_rng(0)
    biases = high * (np.arange(HIDDEN) % 2)
    w1, w2 = g.normal(size=(INPUTS, HIDDEN)) * 0.3, g.normal(size=(HIDDEN, OUTPUTS))
    arrays = {"w1": w1, "b1": g.normal(size=HIDDEN) * 0.1 + biases, "w2": w2, "b2": -biases @ w2}
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["c1"], "one"),
        helper.make_node("Relu", ["c1"], ["r1"], "act"),
        helper.make_node("Gemm", ["r1", "w2", "b2"], ["y"], "two"),
    ]
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", OUTPUTS])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def start(folder: Path, high: float) -> tuple[Options, Model, Sets]:
    """The first stages; as many samples are held out as calibrate."""
    for seed, (name, count) in enumerate((("calibration", 512), ("evaluation", 50))):
        np.savez(folder / f"{name}.npz", x=np.random.default_rng(seed).normal(size=(count, INPUTS)).astype(np.float32))
    options = Options(
        str(written(folder / "model.onnx", high)),
        str(folder / "calibration.npz"),
        folder / "release",
        evaluation=str(folder / "evaluation.npz"),
        samples=256,
    )
    model = open_model(options)
    return options, model, open_sets(options, model.graph)


def quantized(options: Options, model: Model, sets: Sets) -> Quantized:
    skeleton = decide(model.graph, request(options, open_profiles(options)))
    with RunFolder(options.output.with_name("run")) as folder:
        ranges = calibrate(options, model, skeleton, sets, folder, SILENT)
        return quantize(options, model, skeleton, ranges, sets, folder, SILENT)


def test_high_biases_are_absorbed_where_it_is_better(tmp_path: Path) -> None:
    options, model, sets = start(tmp_path, 200.0)
    found = quantized(options, model, sets)
    losses = {trial.method: trial.loss for trial in found.story.trials}
    (name,) = (method for method in losses if method.startswith("absorption"))
    before, after = losses["nearest"], losses[name]
    assert before is not None
    assert after is not None
    assert after < 0.02 * before
    assert next(trial.method for trial in found.story.trials if trial.kept).endswith(name)
    first = found.model.graph.constant("b1")
    assert first is not None
    assert first.max() < 10.0, "the model that goes on is the absorbed one"
    assert found.plan.biases["one"].real.max() < 10.0


def test_a_function_that_changes_on_held_out_samples_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, model, sets = start(tmp_path, 4.0)
    # Calibration that shows a corner of the data alone: there nothing is below the bias, elsewhere it is.
    corner = [(batch[0][:1] * 0.01,) for batch in model.batches(sets.calibration, 64)]
    monkeypatch.setattr("edgeq.pipeline.quantize.absorb", lambda graph, skeleton, _: absorb(graph, skeleton, corner))
    monkeypatch.setattr("edgeq.pipeline.automatic.GOOD", 0.0)
    monkeypatch.setattr("edgeq.pipeline.automatic.COSTLY", ())
    found = quantized(options, model, sets)
    assert any(trial.method.startswith("absorption") for trial in found.story.trials)
    assert not any("absorption" in trial.method for trial in found.story.trials if trial.kept)
    first, own = found.model.graph.constant("b1"), model.graph.constant("b1")
    assert first is not None
    assert own is not None
    assert first.max() > 0.5 * own.max()
