from dataclasses import replace

import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from edgeq.devices import Profile, list_profiles, load_profile
from edgeq.devices.lint import Finding, lint
from edgeq.graph.graph import Graph
from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.ops import INTEGER
from edgeq.plan.plan import Skeleton, Unit
from edgeq.plan.rules import Request, decide

PROFILE = replace(
    load_profile("cpu-litert"),
    integer_ops={"w8a8": ("Conv", "Add"), "w4a8": ("Gemm",)},
    slow_ops={"w4a8": ("Conv",)},
)


def skeleton(*units: tuple[str, str, str], per_channel: bool = True) -> Skeleton:
    """Units as (name, op, bits); a weight where the op has one."""
    made = tuple(
        Unit(
            n, op, (n,), (), (), weight="w" if op in ("Conv", "Gemm") else None, integer=bits != "f", reason="no kernel"
        )
        for n, op, bits in units
    )
    chosen = {n: FLOAT if bits == "f" else Bits.parse(bits) for n, _, bits in units}
    return Skeleton(made, chosen, {}, per_channel=per_channel)


def only(found: tuple[Finding, ...]) -> Finding:
    assert len(found) == 1, found
    return found[0]


def test_a_model_that_fits_has_no_findings() -> None:
    assert lint(PROFILE, skeleton(("c", "Conv", "w8a8"), ("a", "Add", "w8a8"))) == ()


def test_an_op_without_integer_kernel_is_an_error_with_its_cure() -> None:
    found = only(lint(PROFILE, skeleton(("t", "Tanh", "w8a8"))))
    assert (found.level, found.unit) == ("error", "t")
    assert found.message == "cpu-litert has no integer Tanh at w8a8, which t would need: --float 't'"


def test_an_op_that_gains_nothing_is_a_warning() -> None:
    found = only(lint(PROFILE, skeleton(("c", "Conv", "w4a8"), ("g", "Gemm", "w4a8"))))
    assert found.level == "warning"
    assert found.message == "c (Conv) at w4a8 runs on cpu-litert, but no faster than in float"


def test_an_op_without_weights_is_judged_by_its_activations() -> None:
    assert lint(PROFILE, skeleton(("a", "Add", "w4a8"))) == ()


def test_a_float_op_says_why() -> None:
    found = only(lint(PROFILE, skeleton(("l", "Log", "f"))))
    assert (found.level, found.message) == ("warning", "l (Log) will run in float: no kernel")
    assert lint(replace(PROFILE, float_ops=("Log",)), skeleton(("l", "Log", "f"))) == ()


def test_shapes_and_indices_are_no_loss() -> None:
    node = helper.make_node("Shape", ["x"], ["y"], name="shape")
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [2])],
    )
    decided = decide(Graph(ir.from_proto(helper.make_model(graph))), Request())
    assert not decided.units[0].integer
    assert lint(PROFILE, decided) == ()


def test_a_device_with_per_tensor_weights_only() -> None:
    coarse = replace(PROFILE, granularity="per-tensor")
    found = only(lint(coarse, skeleton(("c", "Conv", "w8a8"))))
    assert found.message == "cpu-litert takes per-tensor weights only, but the plan has a scale per channel"
    assert lint(coarse, skeleton(("c", "Conv", "w8a8"), per_channel=False)) == ()


def test_a_format_that_the_device_does_not_run() -> None:
    found = lint(PROFILE, skeleton(("c", "Conv", "w3a8")))
    assert found[0].level == "error"
    assert found[0].message.startswith("cpu-litert does not run w3a8; it runs w8a8, ")


@pytest.mark.parametrize("name", list_profiles())
def test_shipped_profiles_know_the_ops_that_edgeq_makes_integer(name: str) -> None:
    profile: Profile = load_profile(name)
    known = {*profile.integer_ops["w8a8"], *profile.slow_ops.get("w8a8", ())}
    assert known <= INTEGER
    assert {"Conv", "Gemm", "MatMul", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "Softmax"} <= known
