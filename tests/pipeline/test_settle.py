"""What lies between matrix products is float where samples show that its grids cost most; else it stays integer."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeq.pipeline.inputs import open_model, open_profiles, open_sets, request
from edgeq.pipeline.options import Options
from edgeq.pipeline.settle import left_in_float, settle
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Skeleton
from edgeq.plan.rules import decide

WIDTH = 16


def written(path: Path, spread: float) -> Path:
    """Two matrix products; between them a gain for each number and its inverse, with a grid in between."""
    drawn = np.random.default_rng(0)
    gain = np.exp(np.linspace(0, np.log(spread), WIDTH))
    arrays = {"w": drawn.normal(size=(WIDTH, WIDTH)) / 4, "v": drawn.normal(size=(WIDTH, 5)), "g": gain, "h": 1 / gain}
    chain = (("MatMul", "x", "w", "a"), ("Mul", "a", "g", "b"), ("Mul", "b", "h", "c"), ("MatMul", "c", "v", "y"))
    nodes = [helper.make_node(op, [left, right], [made], made) for op, left, right, made in chain]
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3, 5])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def settled(folder: Path, spread: float, overrides: tuple[tuple[str, Bits], ...] = ()) -> Skeleton:
    x = np.random.default_rng(1).normal(size=(200, 3, WIDTH)).astype(np.float32)
    np.savez(folder / "samples.npz", x=x)
    model = str(written(folder / "model.onnx", spread))
    options = Options(model, str(folder / "samples.npz"), folder / "release", overrides=overrides)
    opened = open_model(options)
    asked = request(options, open_profiles(options))
    sets = open_sets(options, opened.graph)
    return settle(opened, decide(opened.graph, asked), asked, sets)[1]


def integer(skeleton: Skeleton) -> set[str]:
    return {unit.name for unit in skeleton.units if unit.integer}


def test_grids_that_cost_most_are_left_out(tmp_path: Path) -> None:
    found = settled(tmp_path, 200.0)
    assert integer(found) == {"a", "y"}
    (note,) = left_in_float(found)
    assert "2 Mul between matrix products and float ops" in note
    assert "--bits-for 'b=w8a8'" in note


def test_grids_that_cost_nothing_stay(tmp_path: Path) -> None:
    found = settled(tmp_path, 1.0)
    assert integer(found) == {"a", "b", "c", "y"}
    assert left_in_float(found) == ()


def test_what_is_asked_by_name_stays_integer(tmp_path: Path) -> None:
    assert {"b", "c"} <= integer(settled(tmp_path, 200.0, (("b", Bits(8, 8)), ("c", Bits(8, 8)))))
