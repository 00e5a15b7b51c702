"""Ways to damage a quantized ONNX file, and a release built with one: what a gate must catch."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from unittest import mock

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeq.pipeline import Conversion, artifacts, convert
from edgeq.pipeline.options import Options

Damage = Callable[[onnx.ModelProto], None]


def build(options: Options, damage: Damage | None = None) -> Conversion:
    """A release whose ONNX file is damaged when it is exported."""
    patched: AbstractContextManager[object] = nullcontext()
    if damage is not None:
        patched = mock.patch.object(artifacts.onnx_format, "export", _damaged(artifacts.onnx_format.export, damage))
    with patched:
        return convert(options)


def _damaged(export: Callable[..., bytes], damage: Damage) -> Callable[..., bytes]:
    def exported(*arguments: object, **options: object) -> bytes:
        data = export(*arguments, **options)
        if arguments[1] is None:  # the float model
            return data
        model = onnx.load_from_string(data)
        damage(model)
        return bytes(model.SerializeToString())

    return exported


def weights(model: onnx.ModelProto) -> list[tuple[onnx.TensorProto, onnx.TensorProto]]:
    """Codes and scale of every weight."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    pairs = [
        (constants[node.input[0]], constants[node.input[1]])
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    ]
    return [(codes, scale) for codes, scale in pairs if codes.data_type == onnx.TensorProto.INT8]


def double_a_scale(model: onnx.ModelProto) -> None:
    """The second weight's scale doubled."""
    _, scale = weights(model)[1]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(2), scale.name))


def one_scale_for_all_channels(model: onnx.ModelProto) -> None:
    """Every weight quantized again, per tensor."""
    for codes, scale in weights(model):
        old = numpy_helper.to_array(scale)
        if old.ndim == 1:
            numbers = numpy_helper.to_array(codes)
            axis = numbers.shape.index(old.size)  # on a square matrix perhaps the other axis: damage all the same
            shape = [1] * numbers.ndim
            shape[axis] = -1
            new = np.rint(numbers * (old / old.max()).reshape(shape)).astype(np.int8)
            codes.CopyFrom(numpy_helper.from_array(new, codes.name))
            scale.CopyFrom(numpy_helper.from_array(np.full_like(old, old.max()), scale.name))


def slow_down(model: onnx.ModelProto) -> None:
    """-(-x) a hundred times before the first op: the same numbers, later."""
    name, last = model.graph.input[0].name, model.graph.input[0].name
    nodes = []
    for index in range(200):
        nodes.append(helper.make_node("Neg", [last], [f"slow_{index}"]))
        last = f"slow_{index}"
    for node in model.graph.node:
        for position, read in enumerate(node.input):
            if read == name:
                node.input[position] = last
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
