"""Damage that the fuzz tests found, one case each: refused in one line that names what is wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from edgeq.cli.inspect import read
from edgeq.errors import EdgeqError
from edgeq.graph.execute import shapes, to_torch
from edgeq.graph.sources import load_model


def _model(opset: int = 18) -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["c"], ["y"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _too_few_bytes(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-3]


def _huge_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 2**40


def _no_type(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].type = AttributeProto.UNDEFINED


def _another_type(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("group", [1]))


def _too_few_inputs(model: onnx.ModelProto) -> None:
    del model.graph.node[0].input[1]


def _no_maker(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "z"


def _recursion(model: onnx.ModelProto) -> None:
    body = [helper.make_node("F", ["a"], ["b"], domain="own")]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, imports))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "F", "own"
    del model.graph.node[1].attribute[:]


def _type(number: int) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = number
        model.graph.node[0].op_type = "Identity"
        del model.graph.node[0].attribute[:], model.graph.node[0].input[1]

    return change


def _external(**entries: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in ({"location": "w.bin", "length": "432"} | entries).items():
            tensor.external_data.add(key=key, value=value)

    return change


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_too_few_bytes, "constant 'w' is damaged: its bytes do not fit"),
        (_huge_shape, "constant 'w' is damaged: its bytes do not fit"),
        (_no_type, "node 'conv' (Conv): attribute 'pads' has no value"),
        (_another_type, "node 'conv' (Conv): attribute 'group' is INTS, where the standard has INT"),
        (_too_few_inputs, "node 'conv' (Conv) has 1 inputs, where the standard has 2 to 3"),
        (_no_maker, "nothing makes the output 'z'"),
        (_recursion, "own::F"),
        (_type(TensorProto.BFLOAT16), "input 'x' takes BFLOAT16"),
        (_type(TensorProto.FLOAT8E5M2), "input 'x' takes FLOAT8E5M2"),
        (_type(TensorProto.UNDEFINED), "input 'x' takes UNDEFINED"),
        (_external(location="a\0b"), "impossible file name"),
        (_external(location="w" * 5000), "impossible file name"),
        (_external(offset="-64"), "offset"),
        (_external(length="864"), "declares a length of 864"),
    ],
)
def test_damage_is_told_in_one_line(damage: Callable[[onnx.ModelProto], None], said: str, tmp_path: Path) -> None:
    model = _model()
    damage(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "w.bin").write_bytes(bytes(1000))
    with pytest.raises(EdgeqError) as raised:
        load_model(tmp_path / "model.onnx")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(_model().SerializeToString().replace(b"pool", b"po\xffl"))
    with pytest.raises(EdgeqError, match="is not UTF-8 text"):
        load_model(tmp_path / "model.onnx")


def test_a_model_never_becomes_source_code(tmp_path: Path) -> None:
    # fx writes the repr of what it does not know into the source that it compiles; that of a graph holds names.
    model = _model()
    attribute = model.graph.node[1].attribute[0]
    name, trap = attribute.name, tmp_path / "sprung"
    attribute.Clear()
    attribute.name, attribute.type = name, AttributeProto.GRAPH
    attribute.g.name = f"__import__('pathlib').Path({str(trap)!r}).touch()"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EdgeqError, match=r"attribute 'kernel_shape' is GRAPH, where the standard has INTS"):
        load_model(tmp_path / "model.onnx")
    # An op that is in no standard has no types to hold it to.
    model.graph.node[1].op_type, model.graph.node[1].domain = "DequantizeLinear", "com.microsoft"
    model.graph.node[1].input.append("w")
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    attribute.name = "axis"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(EdgeqError, match="attribute 'axis' is neither a number, a text nor a tensor"):
        to_torch(load_model(tmp_path / "model.onnx"))
    assert not trap.exists()


def test_a_node_that_cannot_be_computed_is_named(tmp_path: Path) -> None:
    model = _model()
    model.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("group", 3))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    graph = load_model(tmp_path / "model.onnx")
    with pytest.raises(EdgeqError, match="node 'conv' cannot be computed"):
        shapes(graph, to_torch(graph))


@pytest.mark.parametrize("damage", [_recursion, _no_maker, _too_few_bytes])
def test_inspect_answers_or_refuses(damage: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    model = _model()
    damage(model)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    if damage is _recursion:
        assert read(tmp_path / "model.onnx").ops == {"Conv": 1, "F": 1}
        return
    with pytest.raises(EdgeqError):
        read(tmp_path / "model.onnx")


def test_a_scale_in_external_data_is_inspected(tmp_path: Path) -> None:
    model = _model()
    for name, array in (("s", np.array([0.25, 0.5, 0.75, 1], np.float32)), ("q", np.ones((4, 3, 3, 3), np.int8))):
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.initializer[1].ClearField("raw_data")
    model.graph.initializer[1].data_location = TensorProto.EXTERNAL
    model.graph.initializer[1].external_data.add(key="location", value="s.bin")
    # No length is declared, and the file goes on behind the tensor.
    (tmp_path / "s.bin").write_bytes(np.array([0.25, 0.5, 0.75, 1], np.float32).tobytes() + b"more")
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["q", "s"], ["wq"], axis=0))
    model.graph.node[1].input[1] = "wq"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    (grid,) = read(tmp_path / "model.onnx").grids
    assert (grid.smallest_scale, grid.largest_scale, grid.scales, grid.axis) == (0.25, 1.0, 4, 0)
