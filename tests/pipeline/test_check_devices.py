"""What is said of the devices before any work is done: each kind of op once, by its first layer."""

import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeq.devices import load_profile
from edgeq.errors import PlanError
from edgeq.graph.graph import Graph
from edgeq.pipeline.inputs import check_devices
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Skeleton
from edgeq.plan.rules import Request, decide

WEIGHT = helper.make_tensor("w", TensorProto.FLOAT, [3, 3, 1, 1], [0.5] * 9)


def skeleton(*ops: str) -> Skeleton:
    """The plan of a chain of ops on feature maps."""
    nodes = [
        helper.make_node(op, [f"v{i}", *(["w"] if "Conv" in op else [])], [f"v{i + 1}"], name=f"{op}_{i}")
        for i, op in enumerate(ops)
    ]
    inputs = [helper.make_tensor_value_info("v0", TensorProto.FLOAT, ["n", 3, 4, 4])]
    outputs = [helper.make_tensor_value_info(f"v{len(ops)}", TensorProto.FLOAT, ["n", 3, 4, 4])]
    graph = helper.make_graph(nodes, "chain", inputs, outputs, [WEIGHT])
    return decide(Graph(ir.from_proto(helper.make_model(graph))), Request())


def test_each_kind_is_said_once_with_its_first_layer() -> None:
    profiles = (load_profile("cpu-onnxruntime"), load_profile("cpu-litert"))
    notes = check_devices(skeleton("Conv", "ConvTranspose", "Elu", "ConvTranspose", "Elu", "Elu"), profiles)
    assert notes == (
        "ConvTranspose_1 (ConvTranspose) at w8a8 runs on cpu-onnxruntime, but no faster than in float "
        "(and 1 more ConvTranspose)",
        "Elu_2 (Elu) at w8a8 runs on cpu-onnxruntime, but no faster than in float (and 2 more Elu)",
    )


def test_a_float_op_is_said_once_for_all_devices() -> None:
    profiles = (load_profile("cpu-onnxruntime"), load_profile("cpu-litert"))
    (note,) = check_devices(skeleton("Conv", "Erf", "Conv"), profiles)
    assert note.startswith("Erf_1 (Erf) will run in float: ")


def test_a_format_that_a_device_does_not_run_is_refused() -> None:
    asked = skeleton("Conv")
    wide = Skeleton(asked.units, {"Conv_0": Bits(8, 16)}, asked.groups)
    with pytest.raises(PlanError, match="tflite-micro does not run w8a16; it runs w8a8"):
        check_devices(wide, (load_profile("tflite-micro"),))
