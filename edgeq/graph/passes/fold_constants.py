"""What can be computed from constants alone is computed; If with a constant condition keeps only its branch."""

import logging

import onnx_ir as ir
import onnxscript.optimizer
from onnx_ir.passes import common

from edgeq.errors import ModelError
from edgeq.graph.graph import Graph

# A weight that is transposed or reshaped by the exporter must fold too, however large.
_INPUT_LIMIT = 1 << 31
_OUTPUT_LIMIT = 1 << 31


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
                # Left alone by default, since it makes files larger; but pads and shapes are computed from it.
                should_fold=lambda node: True if node.op_type == "ConstantOfShape" else None,
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
