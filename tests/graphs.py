"""Small graphs of ONNX nodes, in canonical form."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from edgeq.graph.graph import MODULE_PATH, Graph
from edgeq.graph.passes import clean

Array = npt.NDArray[Any]


def n(op: str, inputs: str, outputs: str = "y", module: str = "", **attributes: Any) -> onnx.NodeProto:
    names = ["" if key == "." else key for key in inputs.split()]
    node = helper.make_node(op, names, outputs.split(), name=f"{op}_{outputs.split()[0]}", **attributes)
    if module:
        entry = node.metadata_props.add()
        entry.key, entry.value = MODULE_PATH, module
    return node


def weights(**shapes: tuple[int, ...]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Array],
    shape: Sequence[int | str] = ("n", 3, 8, 8),
    outputs: str = "y",
    opset: int = 21,
) -> Graph:
    proto = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(key, TensorProto.FLOAT, None) for key in outputs.split()],
        [numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items()],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return clean(Graph(ir.from_proto(onnx.shape_inference.infer_shapes(model))))
