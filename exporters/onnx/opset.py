"""Raise the operator set of a model in place, where codes of 4 or 16 bits or scales of blocks need a newer one.

From 13 to 21 few ops change their form: the axes of reductions become an input, Split counts its outputs. Those whose
meaning changes are refused.
"""

import numpy as np
import onnx_ir as ir

from edgeq.errors import PlanError

#: Reductions whose axes are an attribute before this version, and an input from then on.
_AXES_INPUT = 18
_REDUCTIONS = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
     "ReduceSumSquare"}
)  # fmt: skip
#: Op -> the version from which the same node means something else.
_CHANGED = {"DFT": 20, "GridSample": 20, "GroupNormalization": 21, "RoiAlign": 16}


def raise_opset(model: ir.Model, wanted: int) -> None:
    """Make the model one of that version of the default operator set, or leave it if it is newer.

    Raises:
        PlanError: an op means something else there.
    """
    version = model.opset_imports[""]
    if version >= wanted:
        return
    for node in tuple(model.graph):
        if node.domain:
            continue
        if version < _CHANGED.get(node.op_type, 0) <= wanted:
            raise PlanError(
                f"node {node.name!r}: {node.op_type} of operator set {version} means something else in {wanted}, which "
                f"this number format needs; export the model anew with opset {wanted}"
            )
        if version < _AXES_INPUT:
            _to_18(model, node)
    model.opset_imports[""] = wanted


def _to_18(model: ir.Model, node: ir.Node) -> None:
    if node.op_type in _REDUCTIONS and "axes" in node.attributes and len(node.inputs) == 1:
        axes = np.array(node.attributes.pop("axes").as_ints(), np.int64)
        value = ir.Value(
            name=f"{node.outputs[0].name}_axes",
            type=ir.TensorType(ir.DataType.INT64),
            shape=ir.Shape(axes.shape),
            const_value=ir.tensor(axes, name=f"{node.outputs[0].name}_axes"),
        )
        model.graph.register_initializer(value)
        node.resize_inputs(2)
        node.replace_input_with(1, value)
    if node.op_type == "Split" and len(node.inputs) == 1:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


__all__ = ["raise_opset"]
