"""What can be computed from constants alone is computed; If with a constant condition keeps only its branch."""

import logging
import math

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common

from edgeq.errors import ModelError
from edgeq.graph.graph import Graph

# A weight that is transposed or reshaped by the exporter must fold too, however large.
_INPUT_LIMIT = 1 << 31
_OUTPUT_LIMIT = 1 << 31
#: Ops that make much of little, and how many numbers are too many: a weight of that size would be a gigabyte.
_GENERATORS = ("ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample")
_LARGEST_MADE = 1 << 28


def _should_fold(node: ir.Node) -> bool | None:
    """Whether to fold a node; None leaves it to the optimizer.

    Raises:
        ModelError: what a node makes from a few numbers would fill the memory.
    """
    target = {"ConstantOfShape": 0, "Expand": 1}.get(node.op_type)
    made = [list(value.shape) for value in node.outputs if value.shape is not None]
    source = node.inputs[target] if target is not None and target < len(node.inputs) else None
    if source is not None and not node.domain:
        shape = ir.convenience.get_const_tensor(source)
        made += [] if shape is None else [shape.numpy().reshape(-1).tolist()]
    known = [[dim for dim in shape if isinstance(dim, int)] for shape in made]
    elements = max(
        (math.prod(dims) for dims, shape in zip(known, made, strict=True) if len(dims) == len(shape)), default=0
    )
    if elements > _LARGEST_MADE and node.op_type in _GENERATORS:
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) makes {elements:,} numbers from constants; is its size damaged?"
        )
    # Left alone by default, since it makes files larger; but pads and shapes are computed from it.
    return True if node.op_type == "ConstantOfShape" else None


def fold_constants(graph: Graph) -> Graph:
    """Fold with onnxscript's optimizer (shape inference included) until nothing changes.

    Raises:
        ModelError: folding fails because the graph's own types or shapes contradict each other.
    """
    model = graph.clone().model
    logger = logging.getLogger("onnxscript.optimizer")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        for _ in range(4):
            result = onnxscript.optimizer.fold_constants_ir(
                model,
                onnx_shape_inference=True,
                input_size_limit=_INPUT_LIMIT,
                output_size_limit=_OUTPUT_LIMIT,
                should_fold=_should_fold,
            )
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
            common.RemoveUnusedNodesPass()(model)
            if not result.modified:
                break
        # In a subgraph, an Identity may be all that makes an outer value an output: it must stay.
        if not any(isinstance(a.value, ir.Graph) for node in model.graph for a in node.attributes.values()):
            common.IdentityEliminationPass()(model)
    except (ir.passes.PassError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"the ONNX graph contradicts itself: {error}") from error
    finally:
        logger.setLevel(level)
    return Graph(model)
