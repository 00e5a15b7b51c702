"""A small network with random weights, and samples whose labels are its own decisions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
INPUT = (3, 8, 8)
CLASSES = 4


def weights(seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (CLASSES, 8), "b3": (CLASSES,)}
    return {key: (rng.normal(size=shape) * 0.4).astype(np.float32) for key, shape in shapes.items()}


def network(
    constants: Mapping[str, Array] | None = None, extra: Sequence[onnx.NodeProto] = (), opset: int = 17
) -> onnx.ModelProto:
    """Two convolutions, a residual, a pool and a matrix product; ``extra`` nodes come after the first convolution."""
    source = "unknown" if extra else "c1"
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], name="first", pads=[1, 1, 1, 1]),
        *extra,
        helper.make_node("Relu", [source], ["r1"], name="first_relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["sum"], name="residual"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], name="head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *INPUT])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(array, key) for key, array in (constants or weights()).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(node.domain, 1) for node in extra if node.domain)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def samples(model: Path, count: int, seed: int) -> dict[str, Array]:
    x = np.random.default_rng(seed).normal(size=(count, *INPUT)).astype(np.float32)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return {"x": x, "y": session.run(None, {"x": x})[0].argmax(1).astype(np.int64)}
