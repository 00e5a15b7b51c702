"""The ONNX standard's node tests pass, except those that conformance_exclusions.toml names with a reason."""

import tomllib
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeq.errors import UnsupportedOpError
from edgeq.graph.conformance import Case, failure, node_cases, pytorch_cases
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.ops import OPS, REFUSED

EXCLUSIONS = Path(__file__).with_name("conformance_exclusions.toml")
SHARE = 0.97  # of the node tests in the table's scope


def excluded() -> dict[str, str]:
    groups = tomllib.loads(EXCLUSIONS.read_text())["exclusion"]
    return {test: group["reason"] for group in groups for test in group["tests"]}


@pytest.fixture(scope="module")
def cases() -> tuple[Case, ...]:
    return tuple(case for case in node_cases() if case.in_scope)


@pytest.fixture(scope="module")
def failures(cases: tuple[Case, ...]) -> dict[str, str]:
    """Reason by test, for those that fail as they are or with static inputs as constants."""
    found = {}
    for case in cases:
        reason = failure(case, static=False) or failure(case, static=True)
        if reason is not None:
            found[case.name] = reason
    return found


def test_every_node_test_in_scope_passes_or_is_excluded_by_name(failures: dict[str, str]) -> None:
    unexpected = {test: reason for test, reason in failures.items() if test not in excluded()}
    assert not unexpected


def test_no_exclusion_passes(cases: tuple[Case, ...], failures: dict[str, str]) -> None:
    present = {case.name for case in cases}
    assert not {test for test in excluded() if test in present and test not in failures}


def test_at_least_97_percent_of_the_node_tests_in_scope_pass(cases: tuple[Case, ...], failures: dict[str, str]) -> None:
    assert len(cases) > 1000
    assert 1 - len(failures) / len(cases) >= SHARE


def test_the_standards_pytorch_layers_pass_unless_they_use_the_broadcast_attribute_of_opset_6() -> None:
    every = pytorch_cases()
    legacy = [case for case in every if any(a.name == "broadcast" for n in case.model.graph.node for a in n.attribute)]
    failed = {case.name: reason for case in every if case not in legacy and (reason := failure(case, static=False))}
    assert len(every) - len(legacy) > 100
    assert not failed
    assert all("opset 13" in (failure(case, static=False) or "") for case in legacy)


def test_every_exclusion_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in excluded().values())


def test_every_op_of_the_standard_is_executed_or_refused_with_a_reason() -> None:
    standard = {
        (schema.domain, schema.name)
        for schema in onnx.defs.get_all_schemas()
        if schema.domain in ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")
    }
    assert standard - OPS.keys() - REFUSED.keys() == set()
    assert OPS.keys() & REFUSED.keys() == set()


def test_a_wrong_result_fails(cases: tuple[Case, ...]) -> None:
    case = next(case for case in cases if case.name == "test_relu")
    (inputs, (expected,)) = case.data[0]
    wrong = Case(**{**vars(case), "data": [(inputs, [np.asarray(expected) + np.float32(0.01)])]})
    assert "largest difference" in (failure(wrong, static=False) or "")


@pytest.mark.parametrize("op", ["If", "Loop", "SequenceInsert", "RandomNormal"])
def test_a_refusal_names_node_reason_and_advice(op: str) -> None:
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([1]))
    node = ir.Node("", op, [value], name="the_node", outputs=[ir.Value(name="y")])
    graph = Graph(ir.Model(ir.Graph([value], node.outputs, nodes=[node], opset_imports={"": 20}), ir_version=10))
    with pytest.raises(UnsupportedOpError) as raised:
        to_torch(graph)
    message = str(raised.value)
    assert op in message
    assert "the_node" in message
    assert REFUSED["", op] in message
