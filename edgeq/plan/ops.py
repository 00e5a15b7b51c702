"""How each op behaves under quantization, in both runtimes' integer kernels: the table behind the rules."""

from edgeq.plan.quantization import Quantization, per_tensor

#: Ops with a weight: codes x codes into an int32 accumulator, requantized once.
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def channel_axis(op: str) -> int:
    """The axis of a weighted op's output that counts its channels."""
    return 1 if op in ("Conv", "ConvTranspose") else -1


#: Those whose weight is a matrix: its rows can be cut in blocks with a scale each.
IN_BLOCKS = frozenset({"Gemm", "MatMul"})

#: Ops whose output shares the input's grid: they move, select or compare codes (or, the average, stay within them).
SAME_GRID = frozenset(
    {
        "AveragePool", "Clip", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "MaxPool", "Pad", "ReduceMax",
        "ReduceMin", "Relu", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose",
        "Unsqueeze",
    }
)  # fmt: skip

#: Ops on two tensors, each on its own grid; either may be a constant.
ELEMENTWISE = frozenset({"Add", "Sub", "Mul"})

#: Ops with one input and an output grid of their own.
RESCALING = frozenset(
    {"GlobalAveragePool", "ReduceMean", "HardSwish", "HardSigmoid", "LeakyRelu", "Elu", "Gelu", "PRelu", "Identity"}
)

#: Ops whose output grid LiteRT prescribes: 8 bits -> grid, 16 bits -> grid.
FIXED: dict[str, dict[int, Quantization]] = {
    "Softmax": {8: per_tensor(1 / 256, -128), 16: per_tensor(1 / 32768, 0, 16)},
    "Sigmoid": {8: per_tensor(1 / 256, -128), 16: per_tensor(1 / 32768, 0, 16)},
    "Tanh": {8: per_tensor(1 / 128, 0), 16: per_tensor(1 / 32768, 0, 16)},
}

#: Everything that can compute on codes.
INTEGER = WEIGHTED | SAME_GRID | ELEMENTWISE | RESCALING | frozenset(FIXED)

#: Ops whose kernels take 8-bit codes only, in both runtimes.
ONLY_8_BITS = frozenset({"Elu"})

#: Activations that a runtime fuses into the op before them.
FUSED_ACTIVATIONS = frozenset({"Relu", "Clip"})

#: Ops that an activation is fused into.
FUSES_ACTIVATION = WEIGHTED | ELEMENTWISE
