"""The table of ops: one file per family; a function writes one unit of the plan, integer or float."""

from collections.abc import Callable

from edgeq.exporters.tflite.emitter import Emitter
from edgeq.exporters.tflite.ops import (
    activations,
    convolution,
    dense,
    elementwise,
    pooling,
    reduction,
    resize,
    shaping,
    slicing,
)
from edgeq.plan.plan import Unit

Write = Callable[[Emitter, Unit], None]

#: ONNX op -> the function that writes it.
OPS: dict[str, Write] = {
    "Conv": convolution.conv,
    "ConvTranspose": convolution.conv_transpose,
    "Gemm": dense.gemm,
    "MatMul": dense.matmul,
    "MaxPool": pooling.max_pool,
    "AveragePool": pooling.average_pool,
    "GlobalAveragePool": pooling.global_pool,
    "GlobalMaxPool": pooling.global_pool,
    **dict.fromkeys(elementwise.BINARY, elementwise.binary),
    "Where": elementwise.where,
    "Abs": elementwise.simple("ABS", "Abs"),
    "Ceil": elementwise.simple("CEIL"),
    "Cos": elementwise.simple("COS", "Cos"),
    "Exp": elementwise.simple("EXP", "Exp"),
    "Floor": elementwise.simple("FLOOR"),
    "HardSwish": elementwise.simple("HARD_SWISH", "HardSwish"),
    "Log": elementwise.simple("LOG"),
    "Neg": elementwise.simple("NEG", "Neg"),
    "Not": elementwise.simple("LOGICAL_NOT", "LogicalNot"),
    "Round": elementwise.simple("ROUND"),
    "Sigmoid": elementwise.simple("LOGISTIC"),
    "Sign": elementwise.simple("SIGN", "Sign"),
    "Sin": elementwise.simple("SIN"),
    "Sqrt": elementwise.simple("SQRT"),
    "Tanh": elementwise.simple("TANH"),
    "Relu": activations.clip,
    "Clip": activations.clip,
    "LeakyRelu": activations.leaky_relu,
    "Gelu": activations.gelu,
    "Elu": activations.elu,
    "PRelu": activations.prelu,
    "HardSigmoid": activations.hard_sigmoid,
    "Softmax": reduction.softmax,
    "LogSoftmax": reduction.softmax,
    "ReduceMean": reduction.reduction("MEAN"),
    "ReduceSum": reduction.reduction("SUM"),
    "ReduceMax": reduction.reduction("REDUCE_MAX"),
    "ReduceMin": reduction.reduction("REDUCE_MIN"),
    "ReduceProd": reduction.reduction("REDUCE_PROD"),
    "ArgMax": reduction.arg_extreme,
    "ArgMin": reduction.arg_extreme,
    "Reshape": shaping.reshape,
    "Flatten": shaping.reshape,
    "Squeeze": shaping.reshape,
    "Unsqueeze": shaping.reshape,
    "Transpose": shaping.transpose,
    "Identity": shaping.identity,
    "Dropout": shaping.identity,
    "Concat": shaping.concat,
    "DepthToSpace": shaping.depth_to_space,
    "SpaceToDepth": shaping.depth_to_space,
    "Expand": shaping.expand,
    "Tile": shaping.expand,
    "Slice": slicing.slice_,
    "Split": slicing.split,
    "Gather": slicing.gather,
    "Pad": slicing.pad,
    "Resize": resize.resize,
    "Upsample": resize.resize,
}

__all__ = ["OPS", "Write"]
