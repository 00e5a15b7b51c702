"""Every op family, float and integer, in LiteRT's default and reference kernels, against PyTorch."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from edgeq.exporters.tflite import audit, build
from edgeq.plan.quantization import per_tensor

from .single_op import DEFAULT, KERNELS, Case, codes, graph_of, integer_plan, real, run, samples, with_plan_constants

_RANDOM = np.random.default_rng(7)


def _w(*shape: int) -> np.ndarray:
    return _RANDOM.normal(0, 0.4, size=shape).astype(np.float32)


def _i(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def _conv(weight: tuple[int, ...], shape: tuple[int, ...], op: str = "Conv", **attributes: Any) -> Case:
    extra = {key: attributes.pop(key) for key in ("then",) if key in attributes}
    bias = weight[0] if op == "Conv" else weight[1] * attributes.get("group", 1)
    return Case(op, (shape,), attributes, {1: _w(*weight), 2: _w(bias)}, **extra)


#: Cases that run in float and, on an integer plan, on codes.
BOTH: dict[str, Case] = {
    "conv 3x3 same": _conv((5, 3, 3, 3), (1, 3, 8, 8), pads=[1, 1, 1, 1]),
    "conv valid": _conv((5, 3, 3, 3), (1, 3, 8, 7)),
    "conv strided, pads on both sides": _conv((4, 3, 3, 3), (1, 3, 8, 8), pads=[1, 1, 1, 1], strides=[2, 2]),
    "conv uneven pads": _conv((4, 3, 3, 2), (1, 3, 8, 8), pads=[2, 0, 1, 1]),
    "conv dilated": _conv((4, 3, 3, 3), (1, 3, 9, 9), pads=[2, 2, 2, 2], dilations=[2, 2]),
    "conv SAME_UPPER": _conv((4, 3, 3, 3), (1, 3, 7, 8), auto_pad="SAME_UPPER", strides=[2, 2]),
    "conv SAME_LOWER": _conv((4, 3, 2, 2), (1, 3, 7, 8), auto_pad="SAME_LOWER"),
    "conv 1x1": _conv((6, 3, 1, 1), (1, 3, 4, 4)),
    "conv relu": _conv((4, 3, 3, 3), (1, 3, 6, 6), pads=[1, 1, 1, 1], then="Relu"),
    "conv relu6": _conv((4, 3, 3, 3), (1, 3, 6, 6), pads=[1, 1, 1, 1], then=(0.0, 6.0)),
    "conv clip -1 1": _conv((4, 3, 3, 3), (1, 3, 6, 6), then=(-1.0, 1.0)),
    "conv clip 0 4": _conv((4, 3, 3, 3), (1, 3, 6, 6), then=(0.0, 4.0)),
    "conv clip -0.5 0.7": _conv((4, 3, 3, 3), (1, 3, 6, 6), then=(-0.5, 0.7)),
    "depthwise": _conv((4, 1, 3, 3), (1, 4, 8, 8), group=4, pads=[1, 1, 1, 1]),
    "depthwise multiplier": _conv((8, 1, 3, 3), (1, 4, 8, 8), group=4, pads=[1, 1, 1, 1], strides=[2, 2]),
    "grouped": _conv((6, 2, 3, 3), (1, 4, 8, 8), group=2, pads=[1, 1, 1, 1]),
    "conv 1d": _conv((5, 3, 3), (1, 3, 12), pads=[1, 1]),
    "conv 1d depthwise strided": _conv((4, 1, 3), (1, 4, 12), group=4, strides=[2], pads=[1, 1]),
    "transposed conv valid": _conv((3, 4, 2, 2), (1, 3, 5, 5), "ConvTranspose", strides=[2, 2]),
    "transposed conv pads": _conv((3, 4, 4, 4), (1, 3, 5, 5), "ConvTranspose", strides=[2, 2], pads=[1, 1, 1, 1]),
    "transposed conv output padding": _conv(
        (3, 4, 3, 3), (1, 3, 5, 5), "ConvTranspose", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]
    ),
    "transposed conv crop": _conv((3, 4, 3, 3), (1, 3, 5, 5), "ConvTranspose", strides=[2, 2], pads=[0, 1, 2, 0]),
    "transposed conv dilated": _conv((3, 4, 3, 3), (1, 3, 5, 5), "ConvTranspose", dilations=[2, 2]),
    "transposed conv 1d": _conv((3, 4, 3), (1, 3, 5), "ConvTranspose", strides=[2]),
    "grouped transposed conv": _conv((4, 3, 3, 3), (1, 4, 5, 5), "ConvTranspose", group=2, strides=[2, 2]),
    "pad edge": Case("Pad", ((1, 3, 4, 5),), {"mode": "edge"}, {1: _i(0, 0, 1, 2, 0, 0, 0, 1)}),
    "gemm": Case("Gemm", ((1, 12),), {"transB": 1}, {1: _w(5, 12), 2: _w(5)}),
    "gemm relu": Case("Gemm", ((1, 12),), {}, {1: _w(12, 5), 2: _w(5)}, then="Relu"),
    "gemm rows": Case("Gemm", ((7, 12),), {}, {1: _w(12, 5), 2: _w(5)}),
    "matmul constant": Case("MatMul", ((1, 6, 12),), {}, {1: _w(12, 5)}),
    "matmul": Case("MatMul", ((2, 6, 12), (2, 12, 5))),
    "matmul heads": Case("MatMul", ((1, 3, 6, 12), (1, 3, 12, 6))),
    "max pool": Case("MaxPool", ((1, 3, 8, 8),), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "max pool pads": Case(
        "MaxPool", ((1, 3, 8, 8),), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    ),
    "max pool ceil": Case("MaxPool", ((1, 3, 7, 7),), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    "max pool 1d": Case("MaxPool", ((1, 3, 8),), {"kernel_shape": [2], "strides": [2]}),
    "average pool": Case("AveragePool", ((1, 3, 8, 8),), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "average pool same": Case("AveragePool", ((1, 3, 8, 8),), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "average pool counts pads": Case(
        "AveragePool", ((1, 3, 8, 8),), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}
    ),
    "global average pool": Case("GlobalAveragePool", ((1, 3, 6, 5),)),
    "add": Case("Add", ((1, 3, 4, 5), (1, 3, 4, 5))),
    "add relu": Case("Add", ((1, 3, 4, 5), (1, 3, 4, 5)), then="Relu"),
    "add clip": Case("Add", ((1, 3, 4, 5), (1, 3, 4, 5)), then=(-0.25, 2.0)),
    "add broadcast": Case("Add", ((1, 3, 4, 5), (3, 1, 1))),
    "add constant": Case("Add", ((1, 3, 4, 5),), {}, {1: _w(3, 1, 1)}),
    "add scalar": Case("Add", ((1, 3, 4, 5),), {}, {1: np.float32(0.75).reshape(())}),
    "sub": Case("Sub", ((1, 3, 4, 5), (1, 3, 4, 5))),
    "sub constant first": Case("Sub", ((1, 3, 4, 5),), {}, {0: np.float32([1.5])}),
    "mul": Case("Mul", ((1, 3, 4, 5), (1, 3, 4, 5))),
    "mul gate": Case("Mul", ((1, 3, 4, 5), (1, 3, 1, 1))),
    "relu": Case("Relu", ((1, 3, 4, 5),)),
    "clip": Case("Clip", ((1, 3, 4, 5),), {}, {1: np.float32(-0.5), 2: np.float32(1.25)}),
    "relu6": Case("Clip", ((1, 3, 4, 5),), {}, {1: np.float32(0), 2: np.float32(6)}),
    "leaky relu": Case("LeakyRelu", ((1, 3, 4, 5),), {"alpha": 0.125}),
    "prelu": Case("PRelu", ((1, 3, 4, 5),), {}, {1: np.float32([0.1, 0.25, 0.5]).reshape(3, 1, 1)}),
    "hard swish": Case("HardSwish", ((1, 3, 4, 5),)),
    "hard sigmoid": Case("HardSigmoid", ((1, 3, 4, 5),), {"alpha": 1 / 6, "beta": 0.5}, steps=2),
    "elu": Case("Elu", ((1, 3, 4, 5),), kernels=(DEFAULT,)),
    "gelu": Case("Gelu", ((1, 3, 4, 5),), opset=20),
    "gelu tanh": Case("Gelu", ((1, 3, 4, 5),), {"approximate": "tanh"}, opset=20),
    "sigmoid": Case("Sigmoid", ((1, 3, 4, 5),)),
    "tanh": Case("Tanh", ((1, 3, 4, 5),)),
    "softmax last": Case("Softmax", ((1, 4, 10),), {"axis": -1}),
    "softmax channels": Case("Softmax", ((1, 6, 4, 5),), {"axis": 1}),
    "softmax opset 11": Case("Softmax", ((1, 6, 4, 5),), {"axis": 1}, opset=11),
    "reduce mean": Case("ReduceMean", ((1, 3, 4, 5),), {"keepdims": 0}, {1: _i(2)}),
    "reduce mean channels": Case("ReduceMean", ((1, 3, 4, 5),), {"keepdims": 1}, {1: _i(1)}),
    "reduce max": Case("ReduceMax", ((1, 3, 4, 5),), {"keepdims": 1}, {1: _i(2, 3)}),
    "reduce min": Case("ReduceMin", ((1, 3, 4, 5),), {"keepdims": 0}, {1: _i(-1)}),
    "concat channels": Case("Concat", ((1, 3, 4, 5), (1, 2, 4, 5)), {"axis": 1}),
    "concat rows": Case("Concat", ((1, 3, 4, 5), (1, 3, 2, 5)), {"axis": 2}),
    "reshape": Case("Reshape", ((1, 3, 4, 5),), {}, {1: _i(1, 12, 5)}),
    "flatten": Case("Flatten", ((1, 3, 4, 5),)),
    "transpose": Case("Transpose", ((1, 3, 4, 5),), {"perm": [0, 2, 3, 1]}),
    "squeeze": Case("Squeeze", ((1, 3, 1, 5),), {}, {1: _i(2)}),
    "unsqueeze": Case("Unsqueeze", ((3, 5),), {}, {1: _i(0)}),
    "depth to space": Case("DepthToSpace", ((1, 8, 3, 4),), {"blocksize": 2}),
    "depth to space CRD": Case("DepthToSpace", ((1, 8, 3, 4),), {"blocksize": 2, "mode": "CRD"}),
    "space to depth": Case("SpaceToDepth", ((1, 2, 4, 6),), {"blocksize": 2}),
    "expand": Case("Expand", ((1, 3, 1, 5),), {}, {1: _i(1, 3, 4, 5)}),
    "tile": Case("Tile", ((1, 3, 2, 5),), {}, {1: _i(1, 2, 1, 2)}),
    "slice": Case("Slice", ((1, 6, 4, 5),), {}, {1: _i(1, 1), 2: _i(5, 4), 3: _i(1, 2)}),
    "slice strides": Case("Slice", ((1, 3, 8, 8),), {}, {1: _i(0, 0), 2: _i(8, 8), 3: _i(2, 3), 4: _i(2, 2)}),
    "slice channel stride": Case("Slice", ((1, 6, 4, 5),), {}, {1: _i(1), 2: _i(6), 3: _i(1), 4: _i(2)}),
    "slice reversed": Case("Slice", ((1, 6, 4, 5),), {}, {1: _i(-1), 2: _i(-100), 3: _i(2), 4: _i(-1)}),
    "split": Case("Split", ((1, 6, 4, 5),), {"axis": 1, "num_outputs": 2}, outputs=2),
    "split uneven": Case("Split", ((1, 6, 4, 5),), {"axis": 1}, {1: _i(2, 4)}, outputs=2),
    "gather": Case("Gather", ((5, 6),), {"axis": 1}, {1: np.array([[0, 2], [5, -1]])}),
    "gather one": Case("Gather", ((1, 3, 4, 5),), {"axis": 2}, {1: np.array(-2)}),
    "pad": Case("Pad", ((1, 3, 4, 5),), {}, {1: _i(0, 0, 1, 2, 0, 0, 0, 1)}),
    "pad channels": Case("Pad", ((1, 3, 4, 5),), {}, {1: _i(0, 2, 0, 0, 0, 2, 0, 0)}),
    "resize nearest": Case(
        "Resize", ((1, 3, 4, 5),), {"mode": "nearest", "coordinate_transformation_mode": "asymmetric",
                                  "nearest_mode": "floor"}, {2: np.float32([1, 1, 2, 2])}
    ),
    "resize nearest default": Case("Resize", ((1, 3, 4, 5),), {"mode": "nearest"}, {2: np.float32([1, 1, 2, 3])}),
    "resize nearest odd": Case("Resize", ((1, 3, 4, 5),), {"mode": "nearest"}, {3: _i(1, 3, 7, 8)}),
    "resize bilinear": Case("Resize", ((1, 3, 4, 5),), {"mode": "linear"}, {2: np.float32([1, 1, 2, 2])}),
    "resize bilinear corners": Case(
        "Resize", ((1, 3, 4, 5),), {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        {3: _i(1, 3, 7, 9)},
    ),
}  # fmt: skip

#: Cases that are float only.
FLOAT: dict[str, Case] = {
    "div": Case("Div", ((1, 3, 4, 5), (1, 3, 4, 5)), positive=True),
    "pow": Case("Pow", ((1, 3, 4, 5),), {}, {1: np.float32(1.7)}, positive=True),
    "square": Case("Pow", ((1, 3, 4, 5),), {}, {1: np.float32(2)}),
    "square root": Case("Pow", ((1, 3, 4, 5),), {}, {1: np.float32(0.5)}, positive=True),
    "sqrt": Case("Sqrt", ((1, 3, 4, 5),), positive=True),
    "exp": Case("Exp", ((1, 3, 4, 5),)),
    "log": Case("Log", ((1, 3, 4, 5),), positive=True),
    "abs": Case("Abs", ((1, 3, 4, 5),)),
    "neg": Case("Neg", ((1, 3, 4, 5),)),
    "sin": Case("Sin", ((1, 3, 4, 5),)),
    "cos": Case("Cos", ((1, 3, 4, 5),)),
    "floor": Case("Floor", ((1, 3, 4, 5),)),
    "ceil": Case("Ceil", ((1, 3, 4, 5),), kernels=(DEFAULT,)),
    "round": Case("Round", ((1, 3, 4, 5),), kernels=(DEFAULT,)),
    "sign": Case("Sign", ((1, 3, 4, 5),)),
    "max": Case("Max", ((1, 3, 4, 5), (1, 3, 4, 5), (1, 3, 1, 1))),
    "min": Case("Min", ((1, 3, 4, 5), (1, 3, 4, 5))),
    "log softmax": Case("LogSoftmax", ((1, 6, 4, 5),), {"axis": 1}),
    "reduce sum": Case("ReduceSum", ((1, 3, 4, 5),), {"keepdims": 0}, {1: _i(1, 2)}),
    "arg max": Case("ArgMax", ((1, 6, 4, 5),), {"axis": 1, "keepdims": 0}),
    "pad constant": Case("Pad", ((1, 3, 4, 5),), {}, {1: _i(0, 0, 1, 2, 0, 0, 0, 1), 2: np.float32(1.5)}),
    "erf": Case("Erf", ((1, 3, 4, 5),)),
    "reciprocal": Case("Reciprocal", ((1, 3, 4, 5),), positive=True),
    "softplus": Case("Softplus", ((1, 3, 4, 5),)),
    "mish": Case("Mish", ((1, 3, 4, 5),)),
    "swish": Case("Swish", ((1, 3, 4, 5),), {"alpha": 1.5}, opset=24),
    "softsign": Case("Softsign", ((1, 3, 4, 5),)),
    "selu": Case("Selu", ((1, 3, 4, 5),)),
    "celu": Case("Celu", ((1, 3, 4, 5),), {"alpha": 2.0}),
    "elu alpha": Case("Elu", ((1, 3, 4, 5),), {"alpha": 0.5}),
    "thresholded relu": Case("ThresholdedRelu", ((1, 3, 4, 5),), {"alpha": 0.5}),
    "is infinite": Case("IsInf", ((1, 3, 4, 5),)),
    "sinh": Case("Sinh", ((1, 3, 4, 5),)),
    "cosh": Case("Cosh", ((1, 3, 4, 5),)),
    "asinh": Case("Asinh", ((1, 3, 4, 5),)),
    "acosh": Case("Acosh", ((1, 3, 4, 5),), reach=(1.01, 3.0)),
    "atan": Case("Atan", ((1, 3, 4, 5),)),
    "asin": Case("Asin", ((1, 3, 4, 5),), reach=(-1.0, 1.0)),
    "acos": Case("Acos", ((1, 3, 4, 5),), reach=(-1.0, 1.0)),
    "atanh": Case("Atanh", ((1, 3, 4, 5),), reach=(-0.95, 0.95)),
    "shrink": Case("Shrink", ((1, 3, 4, 5),), {"lambd": 0.5, "bias": 0.25}),
    "hardmax": Case("Hardmax", ((1, 6, 4, 5),), {"axis": 1}),
    "mean variance": Case("MeanVarianceNormalization", ((2, 3, 4, 5),)),
    "global lp pool": Case("GlobalLpPool", ((1, 3, 4, 5),)),
    "reverse sequence": Case("ReverseSequence", ((5, 3, 4),), {"time_axis": 0, "batch_axis": 1}, {1: _i(1, 5, 3)}),
    "scatter nd": Case("ScatterND", ((6, 4),), {}, {1: _i(4, -5).reshape(2, 1), 2: _w(2, 4)}),
    "scatter nd, computed updates": Case("ScatterND", ((6, 4, 5), (2, 5)), {}, {1: np.array([[4, 1], [0, 3]])}),
    "gather elements": Case("GatherElements", ((3, 4),), {"axis": 1}, {1: np.array([[0, -1], [3, 2], [1, 1]])}),
    "center crop pad": Case("CenterCropPad", ((6, 5, 4),), {"axes": [0, 2]}, {1: _i(4, 7)}),
    "cast like": Case("CastLike", ((2, 3),), {}, {1: _i(1)}),
    "tan": Case("Tan", ((1, 3, 4, 5),), tolerance=1e-4),
    "layer norm": Case("LayerNormalization", ((1, 6, 8),), {"axis": -1}, {1: _w(8), 2: _w(8)}),
    "layer norm of two axes": Case("LayerNormalization", ((1, 3, 4, 5),), {"axis": 2}, {1: _w(4, 5)}),
    "rms norm": Case("RMSNormalization", ((1, 6, 8),), {}, {1: _w(8)}, opset=23),
    "instance norm": Case("InstanceNormalization", ((1, 3, 4, 5),), {}, {1: _w(3), 2: _w(3)}),
    "group norm": Case("GroupNormalization", ((1, 6, 4, 5),), {"num_groups": 2}, {1: _w(6), 2: _w(6)}, opset=21),
    "batch norm": Case("BatchNormalization", ((1, 3, 4, 5),), {}, {1: _w(3), 2: _w(3), 3: _w(3), 4: _w(3) ** 2}),
    "l2 normalization": Case("LpNormalization", ((1, 6, 4, 5),), {"axis": 1}, opset=22),
    "lrn": Case("LRN", ((1, 6, 4, 5),), {"size": 3, "alpha": 0.01}),
    "reduce l1": Case("ReduceL1", ((1, 3, 4, 5),), {}, {1: _i(1, 2)}),
    "reduce l2": Case("ReduceL2", ((1, 3, 4, 5),), {"keepdims": 0}, {1: _i(1)}),
    "reduce sum square": Case("ReduceSumSquare", ((1, 3, 4, 5),), {}, {1: _i(3)}),
    "reduce log sum exp": Case("ReduceLogSumExp", ((1, 3, 4, 5),), {}, {1: _i(1)}),
    "cumulative sum": Case("CumSum", ((1, 3, 4, 5),), {"reverse": 1}, {1: _i(2)}),
    "top k": Case("TopK", ((1, 6, 9),), {"axis": 1}, {1: _i(3)}, outputs=2),
    "lstm": Case("LSTM", ((5, 2, 4),), {"hidden_size": 3}, {1: _w(1, 12, 4), 2: _w(1, 12, 3), 3: _w(1, 24)}, outputs=3),
    "lstm both ways with states": Case(
        "LSTM",
        ((5, 2, 4), (2, 2, 3), (2, 2, 3)),
        {"hidden_size": 3, "direction": "bidirectional"},
        {1: _w(2, 12, 4), 2: _w(2, 12, 3), 3: _w(2, 24)},
        outputs=3,
        skipped=(4,),
    ),
    "gru": Case("GRU", ((5, 2, 4),), {"hidden_size": 3}, {1: _w(1, 9, 4), 2: _w(1, 9, 3), 3: _w(1, 18)}, outputs=2),
    "gru reset after, reversed": Case(
        "GRU",
        ((5, 2, 4),),
        {"hidden_size": 3, "linear_before_reset": 1, "direction": "reverse"},
        {1: _w(1, 9, 4), 2: _w(1, 9, 3), 3: _w(1, 18)},
        outputs=2,
    ),
    "rnn": Case("RNN", ((5, 2, 4),), {"hidden_size": 3}, {1: _w(1, 3, 4), 2: _w(1, 3, 3)}, outputs=2),
    "trilu": Case("Trilu", ((1, 3, 5, 5),), {"upper": 0}),
    "gather nd": Case("GatherND", ((3, 4, 5),), {}, {1: np.array([[0, 1], [2, -1]])}),
    "gemm alpha beta": Case("Gemm", ((12, 7),), {"alpha": 0.5, "beta": 2.0, "transA": 1}, {1: _w(12, 5), 2: _w(5)}),
    "average pool uneven": Case(
        "AveragePool", ((1, 3, 8, 8),), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    ),
    "pad reflect": Case("Pad", ((1, 3, 4, 5),), {"mode": "reflect"}, {1: _i(0, 0, 1, 2, 0, 0, 0, 1)}),
}


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", [*BOTH, *FLOAT])
def test_float_file_computes_what_the_graph_computes(name: str, layout: Any) -> None:
    case = BOTH[name] if name in BOTH else FLOAT[name]
    graph = graph_of(case)
    inputs = samples(graph, case.positive, reach=case.reach)
    expected = real(graph, inputs)
    export = build(graph, None, layout=layout)
    assert audit(export.data, graph, None).problems == ()
    for kernels in case.kernels:
        found = run(export, {f"x{i}": x.numpy() for i, x in enumerate(inputs)}, kernels)
        for key, array in expected.items():
            assert found[key].dtype == array.dtype
            # The kernels sum in another order and approximate transcendental functions to a few units of float32.
            np.testing.assert_allclose(found[key], array, case.tolerance, case.tolerance, err_msg=f"{key} in {kernels}")


@pytest.mark.parametrize("name", BOTH)
def test_integer_file_is_within_rounding_of_the_plan(name: str) -> None:
    case = BOTH[name]
    graph = graph_of(case)
    inputs = samples(graph, case.positive, reach=case.reach)
    plan = integer_plan(graph, inputs)
    export = build(graph, plan)
    assert audit(export.data, graph, plan).problems == ()
    feeds = codes(plan, graph, inputs)
    # What the plan means, in real arithmetic: codes in, real numbers through, codes out.
    dequantized = tuple(torch.from_numpy(plan.activations[k].dequantize(c.astype(np.int64))) for k, c in feeds.items())
    expected = real(with_plan_constants(graph, plan), dequantized)
    for kernels in case.kernels:
        found = run(export, feeds, kernels)
        for key, array in expected.items():
            wanted = plan.activations[key].quantize(array)
            difference = np.abs(found[key].astype(np.int64) - wanted)
            assert found[key].dtype == np.int8
            assert difference.max() <= case.steps, f"{key} in {kernels}: {difference.max()} steps"


@pytest.mark.parametrize("name", ["conv 3x3 same", "depthwise", "gemm", "transposed conv valid"])
def test_weights_with_one_scale(name: str) -> None:
    graph = graph_of(BOTH[name])
    inputs = samples(graph)
    plan = integer_plan(graph, inputs, per_channel=False)
    export = build(graph, plan)
    report = audit(export.data, graph, plan)
    assert report.problems == ()
    assert report.rows[0].axis is None
    feeds = codes(plan, graph, inputs)
    dequantized = tuple(torch.from_numpy(plan.activations[k].dequantize(c.astype(np.int64))) for k, c in feeds.items())
    wanted = plan.activations["y0"].quantize(real(with_plan_constants(graph, plan), dequantized)["y0"])
    for kernels in KERNELS:
        assert np.abs(run(export, feeds, kernels)["y0"].astype(int) - wanted).max() <= 1


def test_an_average_that_no_kernel_computes_is_taken_in_float_and_said() -> None:
    graph = graph_of(FLOAT["average pool uneven"])
    inputs = samples(graph)
    plan = integer_plan(graph, inputs)
    export = build(graph, plan)
    assert "computed in float" in export.notes[0]
    assert any("integer in the plan" in problem for problem in audit(export.data, graph, plan).problems)
    found = run(export, codes(plan, graph, inputs))["y0"]
    wanted = plan.activations["y0"].quantize(real(graph, inputs)["y0"])
    assert np.abs(found.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize(
    "name", ["add", "sub", "mul", "hard sigmoid", "hard swish", "conv 3x3 same", "depthwise", "gemm"]
)
@pytest.mark.parametrize("exponent", [-7, -12, -20])
def test_grids_that_kernels_cannot_compute_with_do_not_reach_them(name: str, exponent: int) -> None:
    graph = graph_of(BOTH[name])
    inputs = samples(graph)
    plan = integer_plan(graph, inputs)
    # An output scale far too small, as a value gets that hardly moved on the calibration samples.
    small = per_tensor(float(plan.activations["y0"].scale) * 2.0**exponent, int(plan.activations["y0"].zero_point))
    plan = replace(plan, activations={**plan.activations, "y0": small})
    export = build(graph, plan)
    feeds = codes(plan, graph, inputs)
    dequantized = tuple(torch.from_numpy(plan.activations[k].dequantize(c.astype(np.int64))) for k, c in feeds.items())
    wanted = small.quantize(real(with_plan_constants(graph, plan), dequantized)["y0"])
    for kernels in KERNELS:
        assert np.abs(run(export, feeds, kernels)["y0"].astype(int) - wanted).max() <= 1
    in_float = [note for note in export.notes if "no integer kernel takes a ratio of scales" in note]
    assert bool(in_float) == bool(audit(export.data, graph, plan).problems)
    assert in_float or exponent > -20
