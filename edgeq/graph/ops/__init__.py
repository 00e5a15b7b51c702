"""The table of ops: one function per ONNX op, one file per family.

An op is a plain function of tensors. Its positional parameters are the ONNX inputs in order (None for an omitted one),
its keyword-only parameters the ONNX attributes by name with the standard's defaults. It may also ask for ``opset``,
``outputs`` (how many outputs the node has) or ``input_types`` (the ONNX number of each input's element type, 0 if it is
not known) by naming a keyword-only parameter so. It returns a tensor, or a tuple if the node has several outputs.
"""

from edgeq.graph.ops import (
    activation,
    arithmetic,
    attention,
    convolution,
    deformable,
    gathering,
    generation,
    logic,
    matrix,
    microsoft,
    microsoft_integer,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    resize,
    shape,
    signal,
    slicing,
    softmax,
    trigonometry,
    vision,
)
from edgeq.graph.ops.op import Op
from edgeq.graph.ops.refused import REFUSED

FAMILIES: tuple[dict[tuple[str, str], Op], ...] = (
    convolution.OPS,
    matrix.OPS,
    arithmetic.OPS,
    trigonometry.OPS,
    activation.OPS,
    logic.OPS,
    pooling.OPS,
    reduction.OPS,
    normalization.OPS,
    softmax.OPS,
    shape.OPS,
    slicing.OPS,
    gathering.OPS,
    generation.OPS,
    recurrent.OPS,
    attention.OPS,
    resize.OPS,
    vision.OPS,
    deformable.OPS,
    signal.OPS,
    quantization.OPS,
    microsoft.OPS,
    microsoft_integer.OPS,
)

OPS: dict[tuple[str, str], Op] = {key: op for family in FAMILIES for key, op in family.items()}

__all__ = ["OPS", "REFUSED", "Op"]
