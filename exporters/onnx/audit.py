"""Read an exported ONNX file back: does it hold the plan's codes, and does ONNX Runtime run them in integer kernels?

Both questions are answered by others than the exporter: the codes by onnx's own reader, the kernels by the graph that
ONNX Runtime's optimizer makes of the file on this machine.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import numpy_helper

from edgeq.errors import ModelError
from edgeq.exporters.audit import Audit, AuditRow
from edgeq.exporters.onnx.rewrite import packed_weights, transposed, turned_weights
from edgeq.graph.graph import Graph
from edgeq.graph.macs import macs
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import Quantization

#: Ops of ONNX Runtime's optimized graph that compute on integers.
INTEGER_KERNELS = frozenset(
    {"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "MatMulInteger", "ConvInteger", "QLinearAdd",
     "QLinearMul", "QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearConcat", "QLinearSigmoid",
     "QLinearLeakyRelu", "QLinearSoftmax", "QLinearReduceMean", "QLinearWhere", "DynamicQuantizeMatMul", "MatMulNBits"}
)  # fmt: skip

#: Ops that ONNX Runtime computes on real numbers, between a dequantization and a quantization. A Relu or Clip that is
#: fused into the op before it is no unit of its own.
FLOAT_KERNELS = frozenset(
    {"Clip", "ConvTranspose", "Elu", "Gelu", "HardSigmoid", "HardSwish", "PRelu", "ReduceMean", "Relu", "SpaceToDepth",
     "Sub", "Tanh"}
)  # fmt: skip


def audit(
    data: bytes, graph: Graph, plan: Plan, shapes: Mapping[str, tuple[int, ...]], beside: Path | None = None
) -> Audit:
    """Compare a file with the plan that it was written from.

    Args:
        data: the file's bytes.
        graph: the model.
        plan: the plan.
        shapes: concrete shapes of one sample's values.
        beside: the folder of its external data.

    Raises:
        ModelError: ONNX Runtime does not load the file.
    """
    model = onnx.load_model_from_string(data)
    initializers = _Constants({tensor.name: tensor for tensor in model.graph.initializer}, str(beside or ""))
    problems = [*_compare_constants(graph, plan, initializers), *_compare_activations(plan, graph, model, initializers)]
    optimized = optimized_graph(data, beside)
    counts = macs(graph, shapes)
    packed = packed_weights(plan)
    rows = tuple(_row(unit, plan, optimized, counts, packed) for unit in plan.units)
    problems += [
        f"{row.unit}: {row.reason}"
        for row, unit in zip(rows, plan.units, strict=True)
        if unit.integer and row.macs and not row.integer and not row.expected_float
    ]
    return Audit(
        format="onnx",
        rows=rows,
        problems=tuple(problems),
        inputs={value.name: _type_name(value) for value in model.graph.input},
        outputs={value.name: _type_name(value) for value in model.graph.output},
        version=next(entry.version for entry in model.opset_import if entry.domain == ""),
        size_bytes=len(data),
    )


def optimized_graph(data: bytes, beside: Path | None = None) -> onnx.ModelProto:
    """What ONNX Runtime makes of a model on this machine, all optimizations on; large constants without their data.

    Args:
        data: the model.
        beside: the folder of its external data.

    Raises:
        ModelError: it does not load.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        if beside is not None:
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(beside))
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_file_name", "optimized.data"
            )
        try:
            onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the binding raises its own, undocumented kinds
            raise ModelError(f"ONNX Runtime does not load the exported model: {str(error).splitlines()[0]}") from error
        return onnx.load(options.optimized_model_filepath, load_external_data=False)


@dataclass(frozen=True)
class _Constants:
    """The file's constants, each read when it is asked for."""

    tensors: Mapping[str, onnx.TensorProto]
    folder: str

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = numpy_helper.to_array(self.tensors[name], self.folder)
        return array.astype(np.int8) if array.dtype.name == "int4" else array


def _row(
    unit: Unit, plan: Plan, optimized: onnx.ModelProto, counts: Mapping[str, int], packed: frozenset[str]
) -> AuditRow:
    node = _find(unit, optimized)
    count = sum(counts.get(name, 0) for name in unit.nodes)
    op = node.op_type if node is not None else "(folded)"
    weight = plan.weights.get(unit.weight) if unit.weight is not None else None
    on_codes = op in INTEGER_KERNELS or (weight is None and count == 0 and not _reads_numbers(node, optimized))
    expected = unit.integer and not on_codes and unit.op in FLOAT_KERNELS
    reason = "" if unit.integer and on_codes else unit.reason
    if unit.integer and not on_codes:
        reason = f"ONNX Runtime has no integer {unit.op}" if expected else f"ONNX Runtime runs it as {op}"
    own = "int4" if unit.weight in packed else "int8"
    dtype = own if weight is not None else "uint8" if unit.integer else "float32"
    axis = None if weight is None else weight.quantization.axis
    return AuditRow(unit.name, op, unit.integer and on_codes, reason, dtype, axis, count, expected)


def _reads_numbers(node: onnx.NodeProto | None, optimized: onnx.ModelProto) -> bool:
    """Whether a node of the optimized graph reads what a DequantizeLinear makes of codes."""
    if node is None:
        return False
    real = {name for each in optimized.graph.node if each.op_type == "DequantizeLinear" for name in each.output}
    return any(name in real for name in node.input)


def _find(unit: Unit, optimized: onnx.ModelProto) -> onnx.NodeProto | None:
    """The optimized node of a unit: by its output's codes, its output, its name, or its weight's codes."""
    outputs = {name for value in unit.outputs for name in (value, f"{value}_codes", f"{value}_real")}
    weights = set() if unit.weight is None else {f"{unit.weight}_codes", unit.weight}
    names = set(unit.nodes)
    moves = ("QuantizeLinear", "DequantizeLinear", "Transpose", "Reshape")
    nodes = [node for node in optimized.graph.node if node.op_type not in moves]
    own = [node for node in nodes if outputs & set(node.output) or node.name in names]
    integer = [node for node in own if node.op_type in INTEGER_KERNELS]
    # As it stands in the file; another unit may share the weight, so that comes last.
    plain = [node for node in own if node.op_type == unit.op]
    return next(iter(integer or plain or [node for node in nodes if weights & set(node.input)] or own), None)


def _compare_constants(graph: Graph, plan: Plan, initializers: _Constants) -> list[str]:
    problems = []
    turned = turned_weights(graph, plan)
    # A MatMul without a bias needs none in the file, unless a method gave it one.
    unbiased = {
        f"{unit.name}_bias"
        for unit in plan.units
        if unit.op == "MatMul"
        and unit.bias is None
        and unit.name in plan.biases
        and not plan.biases[unit.name].codes.any()
    }
    for prefix, constant in [
        *plan.weights.items(),
        *((f"{name}_bias", bias) for name, bias in plan.biases.items()),
    ]:
        constant = transposed(constant) if prefix in turned else constant
        codes = f"{prefix}_codes"
        if codes not in initializers and prefix in unbiased:
            continue
        if codes not in initializers:
            problems.append(f"{prefix}: its codes are not in the file")
        elif not np.array_equal(initializers[codes], constant.codes):
            problems.append(f"{prefix}: the file's codes differ from the plan's")
        else:
            problems += _compare_grid(prefix, constant.quantization, initializers)
    return problems


def _compare_activations(plan: Plan, graph: Graph, model: onnx.ModelProto, initializers: _Constants) -> list[str]:
    kinds = ("QuantizeLinear", "DequantizeLinear")
    pairs = {node.input[1] for node in model.graph.node if node.op_type in kinds}
    problems = []
    for value, grid in plan.activations.items():
        if not graph.consumers(value) and not graph.is_output(value):
            continue  # an output of a Split, say, that nothing reads
        if f"{value}_scale" not in pairs:
            problems.append(f"value {value}: no pair with its grid is in the file")
        else:
            problems += _compare_grid(value, grid, initializers)
    return problems


def _compare_grid(prefix: str, grid: Quantization, initializers: _Constants) -> list[str]:
    scale = initializers[f"{prefix}_scale"]
    zero_point = initializers[f"{prefix}_zero_point"]
    shift = 2 ** (8 * zero_point.dtype.itemsize - 1) if zero_point.dtype.name in ("uint8", "uint16") else 0
    if not np.array_equal(scale, grid.scale):
        return [f"{prefix}: the file's scale differs from the plan's"]
    if not np.array_equal(zero_point.astype(np.int64) - shift, grid.zero_point):
        return [f"{prefix}: the file's zero point differs from the plan's"]
    return []


def _type_name(value: onnx.ValueInfoProto) -> str:
    return str(onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)).lower()
