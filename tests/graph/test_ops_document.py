"""docs/ops.md is current: every op executed or refused is in it, and what is integer where."""

from pathlib import Path

from edgeq.exporters.onnx.audit import FLOAT_KERNELS
from edgeq.graph.ops import OPS, REFUSED
from edgeq.plan.ops import FUSED_ACTIVATIONS, INTEGER

TEXT = (Path(__file__).parents[2] / "docs" / "ops.md").read_text()


def _label(key: tuple[str, str]) -> str:
    return "::".join(key) if key[0] else key[1]


def test_the_table_has_exactly_the_ops_that_are_executed() -> None:
    rows = {line.split("|")[1].strip() for line in TEXT.splitlines() if line.startswith("| ")}
    assert rows - {"op"} == {_label(key) for key in OPS}


def test_refusals_are_told() -> None:
    assert all(_label(key) in TEXT and reason in TEXT for key, reason in REFUSED.items())


def test_what_onnx_runtime_computes_on_codes_is_what_the_audit_expects() -> None:
    told = {row[1].strip(): row[4].strip() for line in TEXT.splitlines() if len(row := line.split("|")) > 6}
    for op in INTEGER:
        expected = "fused into the op before" if op in FUSED_ACTIVATIONS else "no" if op in FLOAT_KERNELS else "yes"
        assert told[op] == expected, op
