"""docs/ops.md is current: every op executed or refused is in it."""

from pathlib import Path

from edgeq.graph.ops import OPS, REFUSED

TEXT = (Path(__file__).parents[2] / "docs" / "ops.md").read_text()


def _label(key: tuple[str, str]) -> str:
    return "::".join(key) if key[0] else key[1]


def test_the_table_has_exactly_the_ops_that_are_executed() -> None:
    rows = {line.split("|")[1].strip() for line in TEXT.splitlines() if line.startswith("| ")}
    assert rows - {"op"} == {_label(key) for key in OPS}


def test_refusals_are_told() -> None:
    assert all(_label(key) in TEXT and reason in TEXT for key, reason in REFUSED.items())
