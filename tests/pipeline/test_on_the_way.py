"""Where static grids of activations cost most between matrix products, the story says what there is instead."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq.pipeline.automatic import Story
from edgeq.pipeline.inputs import open_model, open_sets, request
from edgeq.pipeline.options import Options
from edgeq.pipeline.quantize import calibrate, quantize
from edgeq.plan.bits import Bits
from edgeq.plan.rules import decide
from edgeq.progress import SILENT
from edgeq.run_folder import RunFolder

WIDTH = 16


def written(path: Path) -> Path:
    drawn = np.random.default_rng(0)
    arrays = {"w": drawn.normal(size=(WIDTH, WIDTH)) / 4, "v": drawn.normal(size=(WIDTH, 8)) / 4}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["a"], "a"), helper.make_node("MatMul", ["a", "v"], ["y"], "y")]
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 8])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def told(folder: Path, loudest: float, bits: Bits) -> Story:
    x = np.random.default_rng(1).normal(size=(200, 3, WIDTH)).astype(np.float32)
    x[::2, 0] *= loudest  # every second sample has a token that no common scale serves together with the others
    np.savez(folder / "samples.npz", x=x)
    options = Options(str(written(folder / "model.onnx")), str(folder / "samples.npz"), folder / "release", bits=bits)
    model = open_model(options)
    skeleton, sets = decide(model.graph, request(options, ())), open_sets(options, model.graph)
    with RunFolder(folder / "run") as stages:
        ranges = calibrate(options, model, skeleton, sets, stages, SILENT)
        return quantize(options, model, skeleton, ranges, sets, stages, SILENT).story


@pytest.mark.parametrize("bits", [Bits(8, 8), Bits(4, None)])
def test_nothing_is_said_where_activations_cost_little(tmp_path: Path, bits: Bits) -> None:
    assert "--bits w8" not in str(told(tmp_path, 1.0, bits))


def test_scales_for_every_input_anew_are_named(tmp_path: Path) -> None:
    assert "with --bits w8 ONNX Runtime and LiteRT choose" in told(tmp_path, 300.0, Bits(8, 8)).reason
