"""The unbroken files that the fuzz tests damage: one small model for each kind of graph, and real ones if present."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: An input by name: its shape, its type.
Inputs = dict[str, tuple[tuple[int, ...], type]]


@dataclass(frozen=True, eq=False)
class Seed:
    """An unbroken model.

    Attributes:
        name: for the report.
        model: the file's content.
        inputs: shape of one sample (with the batch) and type of every input.
        beside: files that lie beside it.
    """

    name: str
    model: onnx.ModelProto
    inputs: Inputs
    beside: dict[str, bytes] = field(default_factory=dict)

    def samples(self, count: int = 6) -> dict[str, np.ndarray[Any, Any]]:
        """Random samples of every input."""
        rng = np.random.default_rng(0)
        found = {}
        for name, (shape, kind) in self.inputs.items():
            full = (count * shape[0], *shape[1:]) if shape else (count,)
            numbers = rng.normal(size=full) if kind is np.float32 else rng.integers(0, 5, full)
            found[name] = numbers.astype(kind)
        return found


def _node(op: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    names = ["" if name == "." else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), name=f"{op}_{outputs.split()[0]}", **attributes)


def _constants(seed: int = 0, **shapes: tuple[int, ...]) -> list[onnx.TensorProto]:
    rng = np.random.default_rng(seed)
    return [numpy_helper.from_array((rng.normal(size=s) * 0.3).astype(np.float32), n) for n, s in shapes.items()]


def _integers(**values: Sequence[int] | int) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in values.items()]


def _model(
    nodes: Sequence[onnx.NodeProto],
    constants: Sequence[onnx.TensorProto],
    outputs: str,
    inputs: Inputs,
    opset: int = 18,
    batch: int | str | None = None,
) -> onnx.ModelProto:
    kinds = {np.float32: TensorProto.FLOAT, np.int64: TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "seed",
        [
            helper.make_tensor_value_info(name, kinds[kind], [batch if batch is not None else shape[0], *shape[1:]])
            for name, (shape, kind) in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


_IMAGE: Inputs = {"x": ((1, 3, 8, 8), np.float32)}


def convolutions(opset: int = 18) -> Seed:
    """Plain, depthwise and transposed convolution, residual, pools, resize, concat, dense head."""
    nodes = [
        _node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
        _node("BatchNormalization", "c1 g h m v", "n1"),
        _node("Relu", "n1", "r1"),
        _node("Conv", "r1 w2", "c2", pads=[1, 1, 1, 1], group=4),
        _node("Add", "c2 r1", "s"),
        _node("MaxPool", "s", "p", kernel_shape=[2, 2], strides=[2, 2]),
        _node("ConvTranspose", "p w3", "u", strides=[2, 2]),
        _node("Concat", "u s", "k", axis=1),
        _node("GlobalAveragePool", "k", "gap"),
        _node("Flatten", "gap", "f"),
        _node("Gemm", "f w4 b4", "y", transB=1),
    ]
    constants = _constants(
        w1=(4, 3, 3, 3), b1=(4,), w2=(4, 1, 3, 3), w3=(4, 4, 2, 2), w4=(5, 8), b4=(5,), g=(4,), h=(4,)
    )
    rest = [numpy_helper.from_array(np.full(4, value, np.float32), name) for name, value in (("m", 0.1), ("v", 1.5))]
    return Seed(f"convolutions-{opset}", _model(nodes, constants + rest, "y", _IMAGE, opset, "n"), _IMAGE)


def shapes() -> Seed:
    """Shape arithmetic, slices, pads, gathers, splits and tiles."""
    nodes = [
        _node("Conv", "x w", "c", pads=[1, 1, 1, 1]),
        _node("Shape", "c", "shape"),
        _node("Gather", "shape zero", "batch", axis=0),
        _node("Unsqueeze", "batch axis0", "batch1"),
        _node("Concat", "batch1 rest", "target", axis=0),
        _node("Reshape", "c target", "r"),
        _node("Transpose", "r", "t", perm=[0, 2, 1]),
        _node("Slice", "t starts ends axes steps", "sl"),
        _node("Pad", "sl pads", "pd"),
        _node("Split", "pd", "a b", axis=2, num_outputs=2),
        _node("Mul", "a b", "ab"),
        _node("ReduceMean", "ab axes", "mean", keepdims=0),
        _node("Tile", "mean twice", "tl"),
        _node("Softmax", "tl", "y", axis=-1),
    ]
    constants = _constants(w=(4, 3, 3, 3)) + _integers(
        zero=0,
        axis0=[0],
        rest=[4, -1],
        starts=[0],
        ends=[60],
        axes=[1],
        steps=[2],
        pads=[0, 1, 0, 0, 1, 0],
        twice=[1, 2],
    )
    return Seed("shapes", _model(nodes, constants, "y", _IMAGE, batch="n"), _IMAGE)


def attention() -> Seed:
    """Embedding, layer normalization, attention of two heads with a mask, Gelu written out."""
    inputs: Inputs = {"ids": ((1, 6), np.int64)}
    mask = np.triu(np.full((6, 6), np.float32(-1e38)), 1)
    nodes = [
        _node("Gather", "table ids", "e"),
        _node("LayerNormalization", "e g h", "n", axis=-1),
        *(_node("MatMul", f"n w{part}", part) for part in "qkv"),
        *(_node("Reshape", f"{part} heads", f"{part}r") for part in "qkv"),
        *(
            _node("Transpose", f"{part}r", f"{part}t", perm=[0, 2, 3, 1] if part == "k" else [0, 2, 1, 3])
            for part in "qkv"
        ),
        _node("MatMul", "qt kt", "scores"),
        _node("Mul", "scores scale", "scaled"),
        _node("Add", "scaled mask", "masked"),
        _node("Softmax", "masked", "weights", axis=-1),
        _node("MatMul", "weights vt", "context"),
        _node("Transpose", "context", "ct", perm=[0, 2, 1, 3]),
        _node("Reshape", "ct whole", "cr"),
        _node("Add", "cr e", "res"),
        _node("Erf", "res", "erf"),
        _node("Mul", "res erf", "ge"),
        _node("MatMul", "ge wo", "y"),
    ]
    constants = _constants(table=(9, 8), g=(8,), h=(8,), wq=(8, 8), wk=(8, 8), wv=(8, 8), wo=(8, 3))
    constants += [numpy_helper.from_array(mask, "mask"), numpy_helper.from_array(np.float32(0.5), "scale")]
    constants += _integers(heads=[0, 6, 2, 4], whole=[0, 6, 8])
    return Seed("attention", _model(nodes, constants, "y", inputs), inputs)


def recurrent() -> Seed:
    """LSTM and GRU, each with an initial state that is an input or absent."""
    inputs: Inputs = {"x": ((5, 1, 4), np.float32), "h0": ((1, 1, 6), np.float32)}
    nodes = [
        _node("LSTM", "x w r b . h0", "seq h", hidden_size=6),
        _node("Squeeze", "seq one", "sq"),
        _node("GRU", "sq w2 r2", "seq2", hidden_size=6, linear_before_reset=1),
        _node("Squeeze", "seq2 one", "y"),
    ]
    shapes = {"w": (1, 24, 4), "r": (1, 24, 6), "b": (1, 48), "w2": (1, 18, 6), "r2": (1, 18, 6)}
    return Seed("recurrent", _model(nodes, _constants(**shapes) + _integers(one=[1]), "y h", inputs), inputs)


def detector() -> Seed:
    """Two heads, boxes decoded, the best chosen."""
    nodes = [
        _node("Conv", "x w b", "c", pads=[1, 1, 1, 1]),
        _node("Relu", "c", "r"),
        _node("Conv", "r wb", "boxes4"),
        _node("Conv", "r ws", "scores4"),
        _node("Reshape", "boxes4 flat4", "boxes3"),
        _node("Transpose", "boxes3", "boxes", perm=[0, 2, 1]),
        _node("Exp", "boxes", "sizes"),
        _node("Reshape", "scores4 flat2", "scores3"),
        _node("Sigmoid", "scores3", "scores"),
        _node("NonMaxSuppression", "sizes scores most iou least", "chosen"),
        _node("TopK", "scores three", "best where", axis=2),
        _node("Cast", "chosen", "kept", to=TensorProto.FLOAT),
    ]
    constants = _constants(w=(4, 3, 3, 3), b=(4,), wb=(4, 4, 1, 1), ws=(2, 4, 1, 1))
    constants += _integers(flat4=[1, 4, 64], flat2=[1, 2, 64], most=[5], three=[3])
    constants += [numpy_helper.from_array(np.array([v], np.float32), n) for n, v in (("iou", 0.5), ("least", 0.1))]
    return Seed("detector", _model(nodes, constants, "best kept", _IMAGE), _IMAGE)


def branches() -> Seed:
    """An If whose condition is constant, with subgraphs that read outer values, and a function of the model's own."""
    branch = {}
    for name, op in (("then_branch", "Relu"), ("else_branch", "Neg")):
        nodes = [_node("Mul", "c half", f"{name}_m"), _node(op, f"{name}_m", f"{name}_y")]
        outputs = [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)]
        half = [numpy_helper.from_array(np.float32(0.5), "half")]
        branch[name] = helper.make_graph(nodes, name, [], outputs, half)
    nodes = [
        _node("Conv", "x w", "c"),
        _node("If", "yes", "chosen", **branch),
        helper.make_node("Twice", ["chosen"], ["d"], name="twice", domain="own"),
        _node("GlobalAveragePool", "d", "y"),
    ]
    constants = [*_constants(w=(4, 3, 3, 3)), numpy_helper.from_array(np.array(True), "yes")]
    model = _model(nodes, constants, "y", _IMAGE)
    own = helper.make_opsetid("own", 1)
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 18)]))
    model.opset_import.append(own)
    return Seed("branches", model, _IMAGE)


def quantized() -> Seed:
    """A file with QuantizeLinear and DequantizeLinear pairs, as quantizers write it."""
    rng = np.random.default_rng(0)
    codes = [numpy_helper.from_array(rng.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8), "w")]
    codes += [numpy_helper.from_array(rng.integers(-99, 99, 4).astype(np.int32), "b")]
    codes += [
        numpy_helper.from_array(np.full(4, 0.01, np.float32), "ws"),
        numpy_helper.from_array(np.zeros(4, np.int8), "wz"),
    ]
    codes += [
        numpy_helper.from_array(np.full(4, 2e-4, np.float32), "bs"),
        numpy_helper.from_array(np.zeros(4, np.int32), "bz"),
    ]
    codes += [numpy_helper.from_array(np.float32(0.02), "s"), numpy_helper.from_array(np.uint8(128), "z")]
    nodes = [
        _node("QuantizeLinear", "x s z", "xq"),
        _node("DequantizeLinear", "xq s z", "xd"),
        _node("DequantizeLinear", "w ws wz", "wd", axis=0),
        _node("DequantizeLinear", "b bs bz", "bd", axis=0),
        _node("Conv", "xd wd bd", "c"),
        _node("QuantizeLinear", "c s z", "cq"),
        _node("QLinearConv", "cq s z w ws wz s z", "q2"),
        _node("DequantizeLinear", "cq s z", "y"),
    ]
    return Seed("quantized", _model([n for n in nodes if n.op_type != "QLinearConv"], codes, "y", _IMAGE), _IMAGE)


def external() -> Seed:
    """Weights in a file beside the model."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(16, 192)).astype(np.float32)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=weight.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "64"), ("length", str(weight.nbytes))):
        tensor.external_data.add(key=key, value=value)
    nodes = [_node("Flatten", "x", "f"), _node("Gemm", "f w", "y", transB=1)]
    return Seed(
        "external",
        _model(nodes, [tensor], "y", _IMAGE, batch="n"),
        _IMAGE,
        {"weights.bin": bytes(64) + weight.tobytes()},
    )


GENERATED: tuple[Callable[[], Seed], ...] = (
    convolutions, lambda: convolutions(9), shapes, attention, recurrent, detector, branches, quantized, external,
)  # fmt: skip


def real(assets: Path) -> list[Seed]:
    """Models as their makers ship them; none without the assets."""
    found: list[Seed] = []
    for path, inputs in (
        ("kws_dscnn/kws_dscnn.onnx", {"x": ((1, 49, 10, 1), np.float32)}),
        ("ad_autoencoder/ad_autoencoder.onnx", {"x": ((1, 640), np.float32)}),
        ("cifar_resnet_weights/resnet20.onnx", {"x": ((1, 3, 32, 32), np.float32)}),
    ):
        if (assets / path).is_file():
            model = onnx.load(assets / path)
            fed = [v.name for v in model.graph.input if v.name not in {t.name for t in model.graph.initializer}]
            found.append(Seed(Path(path).stem, model, dict(zip(fed, inputs.values(), strict=True))))
    return found
