"""Parity layer by layer: a copy of the file that gives out its inner codes, and the first layer where two runs part.

The copy computes what the file computes: in TFLite an inner tensor becomes an output of the graph, in ONNX the result
of each QuantizeLinear does, which is where a fused kernel writes anyway.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.devices.hazards import Hazard
from edgeq.devices.parity import parity
from edgeq.errors import DeviceError, ModelError
from edgeq.measurement import Parity

Array = npt.NDArray[Any]
#: Channels last -> channels first, by rank.
_CHANNELS_FIRST: Mapping[int, tuple[int, ...]] = {3: (0, 2, 1), 4: (0, 3, 1, 2)}
#: Up to this share of differences by one step is what ties and nearly-ties between roundings make.
_TIES = 0.01


@dataclass(frozen=True, eq=False)
class Opened:
    """A file that gives out its inner codes.

    Attributes:
        artifact: the copy.
        values: name of the value -> name of the copy's output, in the order in which they are computed.
    """

    artifact: bytes
    values: Mapping[str, str]


@dataclass(frozen=True)
class LayerParity:
    """One value in two runs."""

    value: str
    parity: Parity


def opened_onnx(artifact: bytes) -> Opened:
    """A quantized ONNX file with the result of every QuantizeLinear among its outputs.

    Raises:
        ModelError: it has none.
    """
    import onnx

    model = onnx.load_model_from_string(artifact)
    readers: dict[str, Any] = {name: node for node in model.graph.node for name in node.input[:1]}
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    given = {output.name for output in model.graph.output}
    values = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear" or node.output[0] in given:
            continue
        reader = readers.get(node.output[0])
        values[reader.output[0] if reader is not None else node.output[0]] = node.output[0]
        kind = types.get(node.input[2], onnx.TensorProto.UINT8) if len(node.input) > 2 else onnx.TensorProto.UINT8
        model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], kind, None))
    if not values:
        raise ModelError("the ONNX file holds no QuantizeLinear: there are no inner codes to compare")
    return Opened(bytes(model.SerializeToString()), values)


def opened_tflite(artifact: bytes) -> Opened:
    """An integer TFLite file with the int8 result of every op among its outputs.

    Raises:
        ModelError: it has none.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(artifact, 0))
    graph = model.subgraphs[0]
    values = {}
    outputs = [int(index) for index in graph.outputs]
    for operator in graph.operators:
        for index in (int(i) for i in operator.outputs):
            if graph.tensors[index].type == schema.TensorType.INT8:
                name = graph.tensors[index].name.decode()
                values[name] = name
                outputs += [index] if index not in outputs else []
    if not values:
        raise ModelError("the TFLite file computes no int8 tensor: there are no inner codes to compare")
    # Without a signature the runtime names outputs after their tensors.
    graph.outputs, model.signatureDefs = outputs, []
    builder = flatbuffers.Builder(len(artifact) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return Opened(bytes(builder.Output()), values)


def compare_layers(first: Mapping[str, Array], second: Mapping[str, Array]) -> tuple[LayerParity, ...]:
    """The values that both runs have, in the order of the first.

    Args:
        first: value -> codes, samples first; channels first or last.
        second: the same of the other run; brought to the first's layout by shape. uint8 codes are the int8 ones + 128.

    Raises:
        DeviceError: they have no value in common, or a shape does not fit.
    """
    common = [value for value in first if value in second]
    if not common:
        raise DeviceError("layer parity: the two runs have no value in common")
    return tuple(LayerParity(value, _parity(_signed(first[value]), _signed(second[value]))) for value in common)


def _signed(codes: Array) -> npt.NDArray[np.int64]:
    return codes.astype(np.int64) - (128 if codes.dtype == np.uint8 else 0)


def _parity(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Parity:
    """In the layout that fits; where the shape fits in more than one (as many channels as rows), the nearest."""
    order = _CHANNELS_FIRST.get(second.ndim)
    layouts = [second] if order is None else [second, second.transpose(order), second.transpose(np.argsort(order))]
    fitting = [codes for codes in layouts if codes.shape == first.shape] or [second]
    return min((parity(first, codes) for codes in fitting), key=lambda found: found.unequal)


def first_divergence(layers: tuple[LayerParity, ...]) -> LayerParity | None:
    """The first value that is not equal in both runs."""
    return next((layer for layer in layers if layer.parity.unequal), None)


def cause(layer: LayerParity, hazards: tuple[Hazard, ...] = ()) -> str:
    """What kind of difference it is, for the layer where two runs part.

    Args:
        layer: the first that differs.
        hazards: of the file, from :func:`edgeq.devices.hazards.hazards`.
    """
    largest, share = max(layer.parity.histogram), layer.parity.unequal / layer.parity.compared
    if largest > 1 and hazards:
        kinds = sorted({hazard.kind for hazard in hazards})
        return f"{' or '.join(kinds)}: up to {largest} steps, and the file can do that ({hazards[0].message})"
    if largest == 1 and share <= _TIES:
        return f"rounding: {share:.2%} of the codes differ by one step, as ties do between kernels"
    if largest == 1:
        return f"requantization: {share:.1%} of the codes differ by one step; another order or precision of scaling"
    return f"kernel difference: up to {largest} steps in {share:.1%} of the codes"
