"""Where the time of an inference goes: one row an op, from the runtimes' own profilers.

ONNX Runtime writes a trace of events (JSON); LiteRT a table that looks into its XNNPACK delegate too. Each op is put
into one of five kinds, so that what an integer model loses beside its integer kernels can be seen at once.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from edgeq.errors import DeviceError

Kind = Literal["integer", "float", "quantize", "layout", "other"]

#: Ops that only change the number format, or only move data.
_QUANTIZE = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "QUANTIZE", "DEQUANTIZE", "CAST"}
_LAYOUT = {
    *("Transpose", "ReorderInput", "ReorderOutput", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Pad", "Slice"),
    *("Concat", "Split", "Gather", "Identity", "TRANSPOSE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PAD", "PADV2"),
    *("STRIDED_SLICE", "SLICE", "CONCATENATION", "SPLIT", "GATHER", "COPY"),
}
_XNNPACK_LAYOUT = ("Transpose", "Reshape", "Constant Pad", "Copy", "Concatenate", "Slice", "Static Slice")
#: How XNNPACK marks the types of an operator: (NHWC, QC8), (NC, QS8, QC8W), (ND, F32).
_XNNPACK_INTEGER = re.compile(r"\b(QC8|QS8|QU8|QC8W|QC4W|S8|U8|X8)\b")
_XNNPACK_FLOAT = re.compile(r"\b(F32|F16|BF16)\b")


@dataclass(frozen=True)
class OpTime:
    """One op of the model as the runtime executes it.

    Attributes:
        name: the runtime's name of it; a node's name in ONNX Runtime, type and position in LiteRT.
        op: its type, with what is fused into it.
        kind: integer (computes on codes), float, quantize (only converts between them), layout (only moves data) or
            other (shapes, integers that are no codes).
        milliseconds: mean of one run.
    """

    name: str
    op: str
    kind: Kind
    milliseconds: float


@dataclass(frozen=True)
class OpProfile:
    """All ops of one inference, in the order in which they run."""

    ops: tuple[OpTime, ...]

    @property
    def total_ms(self) -> float:
        """The sum over the ops; less than the latency, which also holds what lies between them."""
        return sum(op.milliseconds for op in self.ops)

    def share(self, *kinds: Kind) -> float:
        """The part of the ops' time that ops of these kinds take, 0 to 1."""
        total = self.total_ms
        return sum(op.milliseconds for op in self.ops if op.kind in kinds) / total if total else 0.0

    def slowest(self, *kinds: Kind) -> tuple[OpTime, ...]:
        """The ops of these kinds (of all, if none is given), slowest first."""
        chosen = [op for op in self.ops if not kinds or op.kind in kinds]
        return tuple(sorted(chosen, key=lambda op: -op.milliseconds))

    def by_op(self) -> tuple[tuple[str, Kind, int, float], ...]:
        """Type, kind, how many there are, and their milliseconds together; slowest first."""
        rows: dict[tuple[str, Kind], list[float]] = {}
        for op in self.ops:
            rows.setdefault((op.op, op.kind), []).append(op.milliseconds)
        found = [(op, kind, len(times), sum(times)) for (op, kind), times in rows.items()]
        return tuple(sorted(found, key=lambda row: -row[3]))


def from_onnxruntime(text: str) -> OpProfile:
    """Read the trace that ONNX Runtime's ``enable_profiling`` writes.

    Raises:
        DeviceError: it holds no ops.
    """
    try:
        events = json.loads(text)
    except ValueError as error:
        raise DeviceError(f"ONNX Runtime's profile cannot be read: {error}") from None
    micros: dict[str, list[int]] = {}
    described: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            micros.setdefault(name, []).append(int(event["dur"]))
            described[name] = event["args"]
    if not micros:
        raise DeviceError("ONNX Runtime's profile holds no ops")
    return OpProfile(
        tuple(
            OpTime(name, described[name]["op_name"], _kind_in_onnxruntime(described[name]), _typical(taken) / 1000)
            for name, taken in micros.items()
        )
    )


def _typical(taken: list[int]) -> float:
    """The mean without the tenth at either end: whole microseconds are too coarse for a median, first runs too slow."""
    cut = len(taken) // 10
    kept = sorted(taken)[cut : len(taken) - cut]
    return sum(kept) / len(kept)


def _kind_in_onnxruntime(event: dict[str, Any]) -> Kind:
    op = event["op_name"]
    if op in _QUANTIZE:
        return "quantize"
    if op in _LAYOUT:
        return "layout"
    types = [kind for tensor in event.get("input_type_shape", ()) for kind in tensor]
    if op.startswith("QLinear") or (types and types[0] in ("int8", "uint8", "int16", "uint16")):
        return "integer"
    return "float" if any(kind in ("float", "float16", "double") for kind in types) else "other"


_LITERT_ROW = re.compile(
    r"^\s*(?P<op>\S.*?)\s+[\d.]+\s+[\d.]+\s+(?P<ms>[\d.]+)\s+(?P<share>[\d.]+)%\s+[\d.]+%\s+[\d.]+\s+(?P<runs>\d+)\s+"
    r"(?P<name>\[\w+\]:\d+)\s*$"
)


def from_litert(text: str, artifact: bytes) -> OpProfile:
    """Read LiteRT's summary in run order.

    The table gives milliseconds to three places, which is coarse for small ops; the shares are finer, so that an op's
    time is its share of the sum.

    Args:
        text: the summary.
        artifact: the file, to see on which types the ops outside the delegate work.

    Raises:
        DeviceError: it holds no ops.
    """
    section = text.partition("Run Order")[2].partition("Top by Computation Time")[0]
    rows = [match for line in section.splitlines() if (match := _LITERT_ROW.match(line))]
    micros = re.search(r"Timings \(microseconds\): count=\d+ .*?curr=(\d+)", text)
    if not rows or micros is None:
        raise DeviceError("LiteRT's profile holds no ops")
    runs = min(int(row["runs"]) for row in rows)
    total = float(micros[1]) / runs / 1000
    integer = _integer_ops(artifact)
    ops: list[OpTime] = []
    for row in rows:
        # Where the delegate has several parts of the graph, ops of the same place in each share one row.
        parts = max(1, round(int(row["runs"]) / runs))
        op = OpTime(
            f"{row['op'].removeprefix('Delegate/')} {row['name']}",
            row["op"].removeprefix("Delegate/"),
            _kind_in_litert(row["op"], row["name"], integer),
            float(row["share"]) / 100 * total / parts,
        )
        ops += [op] * parts
    return OpProfile(tuple(ops))


def _kind_in_litert(op: str, name: str, integer: dict[int, bool]) -> Kind:
    if not op.startswith("Delegate/"):
        if op in _QUANTIZE:
            return "quantize"
        if op in _LAYOUT:
            return "layout"
        return "integer" if integer.get(int(name.partition(":")[2]), False) else "float"
    inner = op.removeprefix("Delegate/")
    if inner.startswith("Convert"):
        return "quantize"
    if inner.startswith(_XNNPACK_LAYOUT) or inner.removeprefix("Static ").startswith(_XNNPACK_LAYOUT):
        return "layout"
    if _XNNPACK_FLOAT.search(inner):
        return "float"
    return "integer" if _XNNPACK_INTEGER.search(inner) else "other"


def _integer_ops(artifact: bytes) -> dict[int, bool]:
    """Position of each op in the file -> whether its result is codes."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAsModel(artifact, 0).Subgraphs(0)
    codes = (schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16)
    return {
        index: graph.Tensors(graph.Operators(index).Outputs(0)).Type() in codes
        for index in range(graph.OperatorsLength())
    }


def table(profile: OpProfile, rows: int = 10) -> Iterable[tuple[str, str, float, float]]:
    """The slowest ops as (name, kind, milliseconds, share)."""
    total = profile.total_ms or 1.0
    return [(op.name, op.kind, op.milliseconds, op.milliseconds / total) for op in profile.slowest()[:rows]]
