"""Generate docs/ops.md: what edgeq does with every op, each column read from code or measured.

    python benchmarks/ops_table.py              # writes docs/ops.md

- torch execution: the ONNX standard's node tests (those that ship in the onnx wheel) that pass.
- integer in ONNX Runtime: the op stands between QuantizeLinear and DequantizeLinear as the export writes it, and the
  installed ONNX Runtime's optimized graph computes it on codes.
- integer in LiteRT: the plan's rules make the op integer and the TFLite exporter writes it.
- float fallback: formats that can hold the op in float beside an integer part.
- its parts: the passes write the op out as the standard defines it, and its parts have rows of their own.
- an op that takes codes itself is executed as it is where it stands in a model that is read.
"""

import tomllib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeq.errors import ModelError
from edgeq.exporters.onnx.audit import optimized_graph
from edgeq.exporters.tflite.ops import OPS as TFLITE_OPS
from edgeq.graph.conformance import Case, failure, node_cases
from edgeq.graph.ops import OPS, REFUSED, microsoft_integer, quantization
from edgeq.graph.passes.expand_functions import EXPANDED
from edgeq.plan.ops import FUSED_ACTIVATIONS, INTEGER, WEIGHTED

ROOT = Path(__file__).resolve().parents[1]
EXCLUSIONS = ROOT / "tests" / "graph" / "conformance_exclusions.toml"
Key = tuple[str, str]
_OPSET = 21  # the newest that every ONNX Runtime in support knows
#: Ops that the export writes on codes itself.
_WRITTEN_ON_CODES = frozenset({"Pad"})
_TAKES_CODES = quantization.OPS.keys() | microsoft_integer.OPS.keys()


@dataclass(frozen=True)
class Counted:
    """How many of an op's node tests pass."""

    passed: int
    total: int


def count_passes() -> dict[Key, Counted]:
    """Run every node test in the table's scope, in both forms."""
    results: dict[Key, list[bool]] = defaultdict(list)
    for case in node_cases():
        if case.in_scope:
            results[case.op].append(failure(case, static=False) is None and failure(case, static=True) is None)
    return {key: Counted(sum(passed), len(passed)) for key, passed in results.items()}


def integer_in_onnxruntime() -> dict[str, bool]:
    """Whether ONNX Runtime computes an op on codes in at least one of its node tests."""
    found: dict[str, bool] = {}
    for case in node_cases():
        op = case.op[1]
        if op in INTEGER and not case.op[0] and not found.get(op) and _wrappable(case):
            found[op] = _runs_on_codes(_between_codes(case))
    return found


def _wrappable(case: Case) -> bool:
    nodes, graph = case.model.graph.node, case.model.graph
    floats = [v for v in (*graph.input[:1], *graph.output) if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    return len(nodes) == 1 and len(floats) == 1 + len(graph.output) and case.opset >= 11


def _between_codes(case: Case) -> onnx.ModelProto:
    """The test's node with uint8 activations, int8 weights and int32 biases, as QDQ writes it."""
    node = onnx.NodeProto()
    node.CopyFrom(case.model.graph.node[0])
    nodes, initializers, inputs, outputs = [], [], [], []
    weighted = node.op_type in WEIGHTED

    def constant(name: str, array: np.ndarray) -> str:  # type: ignore[type-arg]
        initializers.append(numpy_helper.from_array(array, name))
        return name

    activation = [constant("scale", np.array(0.05, np.float32)), constant("zero", np.array(128, np.uint8))]
    for position, (value, array) in enumerate(zip(case.model.graph.input, case.data[0][0], strict=True)):
        slot = list(node.input).index(value.name)
        real = value.type.tensor_type.elem_type == TensorProto.FLOAT
        if not real or (slot and node.op_type in ("Clip", "Resize")):
            constant(value.name, np.asarray(array))
            continue
        if position and weighted:
            kind, scale = (np.int8, 0.05) if slot == 1 else (np.int32, 0.0025)
            codes = constant(f"{value.name}_codes", np.ones(np.shape(array), kind))
            grid = [constant(f"{value.name}_scale", np.array(scale, np.float32))]
            grid.append(constant(f"{value.name}_zero", np.array(0, kind)))
        elif slot and node.op_type == "Pad":
            codes, grid = constant(f"{value.name}_codes", np.full(np.shape(array), 128, np.uint8)), activation
        else:
            inputs.append(value)
            codes, grid = f"{value.name}_codes", activation
            nodes.append(helper.make_node("QuantizeLinear", [value.name, *grid], [codes]))
        nodes.append(helper.make_node("DequantizeLinear", [codes, *grid], [f"{value.name}_real"]))
        node.input[slot] = f"{value.name}_real"
    nodes.append(node)
    for value in case.model.graph.output:
        name = value.name
        nodes.append(helper.make_node("QuantizeLinear", [name, *activation], [f"{name}_codes"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_codes", *activation], [f"{name}_out"]))
        outputs.append(helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "qdq", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)


def _runs_on_codes(model: onnx.ModelProto) -> bool:
    try:
        graph = optimized_graph(model.SerializeToString()).graph
    except ModelError:
        return False
    # Nothing may read a dequantized value: ONNX Runtime may have renamed the op or written it out in others.
    real = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return not any(real.intersection(node.input) for node in graph.node)


def table(passes: Mapping[Key, Counted], onnxruntime_integer: Mapping[str, bool]) -> list[str]:
    """The rows, one for each op, the standard's first."""
    rows = [
        "| op | opset | torch execution | integer in ONNX Runtime | integer in LiteRT | float fallback |",
        "|---|---|---|---|---|---|",
    ]
    for domain, op in sorted(OPS):
        counted = passes.get((domain, op), Counted(0, 0))
        tests = f"{counted.passed} of {counted.total} node tests" if counted.total else "compared with ONNX Runtime"
        label = f"{domain}::{op}" if domain else op
        integer = op in INTEGER and not domain
        tflite = op in TFLITE_OPS and not domain
        runtime = _yes(integer and (op in _WRITTEN_ON_CODES or onnxruntime_integer.get(op, False)))
        if op in FUSED_ACTIVATIONS and not domain:
            runtime = "fused into the op before"
        litert = _yes(integer and tflite)
        fallback = "ONNX, TFLite" if tflite else "ONNX"
        if op in EXPANDED and not domain:
            runtime, litert, fallback = "its parts", "its parts", "ONNX, TFLite"
        if (domain, op) in _TAKES_CODES:
            runtime, litert, fallback = "takes codes itself", "no", "none needed"
        rows.append(f"| {label} | {_versions(domain, op)} | {tests} | {runtime} | {litert} | {fallback} |")
    return rows


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _versions(domain: str, op: str) -> str:
    versions = sorted(
        {s.since_version for s in onnx.defs.get_all_schemas_with_history() if (s.domain, s.name) == (domain, op)}
    )
    return ", ".join(map(str, versions)) if versions else "1"


def refusals() -> list[str]:
    """Ops that are refused, grouped by reason."""
    by_reason: dict[str, list[str]] = defaultdict(list)
    for (domain, op), reason in REFUSED.items():
        by_reason[reason].append(f"{domain}::{op}" if domain else op)
    return [f"- {', '.join(sorted(ops))}: {reason}." for reason, ops in by_reason.items()]


def exclusions() -> list[str]:
    """Node tests in scope that do not pass, grouped by reason."""
    groups = tomllib.loads(EXCLUSIONS.read_text())["exclusion"]
    return [f"- {group['reason']}: {', '.join(f'`{test}`' for test in group['tests'])}." for group in groups]


def main() -> None:
    """Measure and write docs/ops.md."""
    passes = count_passes()
    passed, total = (sum(getattr(c, field) for c in passes.values()) for field in ("passed", "total"))
    lines = [
        "# Ops",
        "",
        "Generated by `python benchmarks/ops_table.py`; see there what each column means.",
        f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}: {passed} of the {total} node tests whose "
        f"ops are in the table pass ({passed / total:.1%}); edgeq executes {len(OPS)} ops.",
        "",
        *table(passes, integer_in_onnxruntime()),
        "",
        "An op that is not integer stays in float between DequantizeLinear and QuantizeLinear, and the plan says why.",
        "",
        "## Refused, with the reason",
        "",
        *refusals(),
        "",
        "## Node tests in scope that do not pass",
        "",
        *exclusions(),
        "",
    ]
    (ROOT / "docs" / "ops.md").write_text("\n".join(lines))
    print(f"{passed} of {total} node tests pass; {len(OPS)} ops; docs/ops.md written")


if __name__ == "__main__":
    main()
