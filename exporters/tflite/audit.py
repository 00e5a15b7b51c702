"""Read a file back and hold it against the plan: element types, axes, scales, zero points and every code."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from edgeq.exporters.audit import Audit, AuditRow
from edgeq.exporters.tflite.narrow import entry_grid
from edgeq.exporters.tflite.ops.convolution import ungrouped, ungrouped_grid
from edgeq.exporters.tflite.reach import reach
from edgeq.exporters.tflite.read import File, Operator, Tensor, read
from edgeq.graph.graph import Graph, attributes
from edgeq.plan.ops import SAME_GRID
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import Quantization, QuantizedConstant
from edgeq.plan.stored import in_bytes, is_narrow
from edgeq.plan.units import group

#: Operators with a weight -> positions of weight and bias among the inputs, and the stored axis of output channels.
_WEIGHTED: dict[str, tuple[int, int, int]] = {
    "CONV_2D": (1, 2, 0),
    "DEPTHWISE_CONV_2D": (1, 2, 3),
    "FULLY_CONNECTED": (1, 2, 0),
    "TRANSPOSE_CONV": (1, 3, 0),
}

#: Ops whose products are counted; in float even without a constant weight.
_MULTIPLY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})

#: Names of the steps that turn one form of a value into another; they belong to no unit.
_CONVERSIONS = frozenset({"quantized", "dequantized", "limited", "reshaped", "transposed", "output"})


def audit(data: bytes, graph: Graph, plan: Plan | None) -> Audit:
    """What the file holds, unit by unit, and whatever is not as the plan says.

    Args:
        data: a file that :func:`edgeq.exporters.tflite.export` wrote.
        graph: the graph that was exported.
        plan: its plan; None if the float model was asked for.

    Raises:
        ModelError: the file cannot be read.
    """
    file = read(data)
    plan = None if plan is None else in_bytes(plan)
    units = group(graph) if plan is None else plan.units
    operators = _by_value(file, frozenset(value for unit in units for value in unit.outputs))
    rows: list[AuditRow] = []
    problems: list[str] = []
    for unit in units:
        mine = [operator for value in unit.outputs for operator in operators.get(value, ())]
        rows.append(_row(file, unit, mine))
        problems += _problems(file, graph, plan, unit, mine)
    problems += _interface_problems(file, graph, plan)
    problems += () if plan is None else _reach_problems(file, plan)
    return Audit(
        format="tflite",
        rows=tuple(rows),
        problems=tuple(dict.fromkeys(problems)),
        inputs={name: file.tensors[index].dtype for name, index in file.inputs.items()},
        outputs={name: file.tensors[index].dtype for name, index in file.outputs.items()},
        version=file.version,
        size_bytes=file.size_bytes,
    )


def _by_value(file: File, known: frozenset[str]) -> dict[str, list[Operator]]:
    """The operators that make each value of the graph: by tensor name, steps on the way (value::step) included."""
    found: dict[str, list[Operator]] = {}
    for operator in file.operators:
        for index in operator.outputs:
            full = file.tensors[index].name
            value, mark, step = full.rpartition("::")
            if not mark or full in known:  # a value of the graph may itself be called like a step: onnx::Gemm_9
                found.setdefault(full, []).append(operator)
            elif step not in _CONVERSIONS and not step.isdigit():
                found.setdefault(value, []).append(operator)
    return found


def _row(file: File, unit: Unit, operators: list[Operator]) -> AuditRow:
    # A depthwise convolution that only takes every n-th pixel is no arithmetic of the model.
    multiplies = unit.weight is not None or unit.op in _MULTIPLY
    macs = sum(file.macs(operator) for operator in operators) if multiplies else 0
    if not operators:
        return AuditRow(unit.name, "none needed", unit.integer, "" if unit.integer else unit.reason, "", None, 0)
    main = max(operators, key=file.macs)
    integer = all(file.computes_on_codes(operator) for operator in operators)
    tensor = file.tensors[main.outputs[0]]
    axis = None
    if main.code in _WEIGHTED:
        tensor = _stored_weight(file, main)
        axis = tensor.axis
    return AuditRow(unit.name, main.code, integer, "" if integer else unit.reason, tensor.dtype, axis, macs)


def _problems(file: File, graph: Graph, plan: Plan | None, unit: Unit, operators: list[Operator]) -> Iterator[str]:
    if plan is None or not unit.integer:
        wrong = [o.code for o in operators if file.computes_on_codes(o)]
        if wrong:
            yield f"unit {unit.name!r} is float in the plan, but {wrong[0]} computes on codes"
        if plan is not None and unit.weight in plan.weights:
            yield from _weight_problems(file, graph, plan, unit, operators)
        return
    for operator in operators:
        if not file.computes_on_codes(operator):
            yield f"unit {unit.name!r} is integer in the plan, but {operator.code} computes on real numbers"
    for operator in operators:
        for index in operator.outputs:
            tensor = file.tensors[index]
            if tensor.name in unit.outputs:
                yield from _grid_problems(tensor, plan.activations[tensor.name], f"value {tensor.name!r}")
    if unit.weight is not None:
        yield from _weight_problems(file, graph, plan, unit, operators)


def _grid_problems(tensor: Tensor, grid: Quantization, what: str) -> Iterator[str]:
    dtype = "int8" if grid.bits <= 8 else "int16"
    if tensor.dtype != dtype:
        yield f"{what} is {tensor.dtype} instead of {dtype}"
    if not np.array_equal(tensor.scale, np.atleast_1d(grid.scale)):
        yield f"{what} has scale {tensor.scale.tolist()} instead of {np.atleast_1d(grid.scale).tolist()}"
    if not np.array_equal(tensor.zero_point, np.atleast_1d(grid.zero_point)):
        yield f"{what} has zero point {tensor.zero_point.tolist()} instead of {np.atleast_1d(grid.zero_point).tolist()}"


def _weight_problems(file: File, graph: Graph, plan: Plan, unit: Unit, operators: list[Operator]) -> Iterator[str]:
    """What differs of codes that an op reads: on codes itself, or in float, itself or through a DEQUANTIZE."""
    assert unit.weight is not None
    weighted = [operator for operator in operators if operator.code in _WEIGHTED]
    if len(weighted) != 1 and (unit.integer or not weighted):
        yield f"unit {unit.name!r} should be one operator with a weight, and is {len(weighted)}"
        return
    operator = weighted[0]
    position, bias_position, axis = _WEIGHTED[operator.code]
    weight = file.tensors[operator.inputs[position]] if unit.integer else _stored_weight(file, operator)
    asked, what = plan.weights[unit.weight], f"weight {unit.weight!r}"
    if weight.dtype not in ("int8", "int4"):
        yield f"{what} is {weight.dtype} instead of int8 or int4"
        return
    groups = int(attributes(graph.node(unit.name)).get("group", 1)) if operator.code == "TRANSPOSE_CONV" else 1
    grid = ungrouped_grid(asked.quantization, groups)
    assert grid is not None
    scale, wanted = weight.scale, np.atleast_1d(grid.scale)
    if weight.block:
        scale, wanted = file.tensors[weight.block_scales].array.astype(np.float32), _as_stored(grid)
    if weight.block != grid.block or not np.array_equal(scale, wanted) or weight.zero_point.any():
        yield f"{what} does not have the scales of the plan"
    if asked.quantization.axis is not None and weight.scale.size > 1 and weight.axis != axis:
        yield f"{what} has its scales along axis {weight.axis} instead of {axis}"
    if not _same_codes(graph, unit, operator.code, weight.array, asked.codes):
        yield f"{what} does not hold the codes of the plan"
    if unit.integer:
        yield from _bias_problems(file.tensors[operator.inputs[bias_position]], plan.biases[unit.name], unit)


def _stored_weight(file: File, operator: Operator) -> Tensor:
    """The weight that an operator reads, itself or through a DEQUANTIZE."""
    index = operator.inputs[_WEIGHTED[operator.code][0]]
    maker = next((o for o in file.operators if index in o.outputs and o.code == "DEQUANTIZE"), None)
    return file.tensors[index if maker is None else maker.inputs[0]]


def _as_stored(grid: Quantization) -> npt.NDArray[np.float32]:
    """Scales of blocks as (outputs, blocks of inputs)."""
    return grid.scale if grid.axis == 1 else grid.scale.T


def _bias_problems(bias: Tensor, asked: QuantizedConstant, unit: Unit) -> Iterator[str]:
    what = f"bias of unit {unit.name!r}"
    if bias.dtype not in ("int32", "int64"):
        yield f"{what} is {bias.dtype} instead of int32"
        return
    if not np.array_equal(bias.array, asked.codes):
        yield f"{what} does not hold the codes of the plan"
    scale = np.atleast_1d(asked.quantization.scale)
    if bias.scale.size not in (1, scale.size) or (bias.scale != scale).any() or bias.zero_point.any():
        yield f"{what} does not have the scales of the plan"


def _same_codes(
    graph: Graph, unit: Unit, code: str, stored: npt.NDArray[np.integer], asked: npt.NDArray[np.integer]
) -> bool:
    """Whether the stored codes are the plan's, turned into the graph's layout again.

    A dense layer may have its columns permuted, all rows alike: the columns are compared as a set.
    """
    node = attributes(graph.node(unit.name))
    if code == "FULLY_CONNECTED":
        matrix = asked if unit.op == "Gemm" and node.get("transB", 0) else asked.T
        return stored.shape == matrix.shape and bool((_sorted_columns(stored) == _sorted_columns(matrix)).all())
    if asked.ndim == 3:
        asked = asked[:, :, None, :]
    if code == "DEPTHWISE_CONV_2D":
        turned = stored[0].transpose(2, 0, 1)[:, None]
    elif code == "TRANSPOSE_CONV":
        turned = stored.transpose(3, 0, 1, 2)
        spread = list(node.get("dilations") or [1, 1])
        turned = turned[:, :, :: spread[0] if len(spread) == 2 else 1, :: spread[-1]]
        asked = ungrouped(asked, int(node.get("group", 1)))
    else:
        turned = stored.transpose(0, 3, 1, 2)
    return bool(turned.shape == asked.shape and np.array_equal(turned, asked))


def _sorted_columns(matrix: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
    signed = matrix.astype(np.int8)
    return signed[:, np.lexsort(signed)] if signed.size else signed


def _reach_problems(file: File, plan: Plan) -> Iterator[str]:
    """Values that can hold codes beyond the ends of their grid, where the type has more."""
    moved = {value for unit in plan.units if unit.integer and unit.op in SAME_GRID for value in unit.outputs}
    given = set(file.inputs.values())  # limited behind, whatever a caller gives
    for index, tensor in enumerate(file.tensors):
        value, _, step = tensor.name.rpartition("::")
        value = value if step in ("limited", "quantized") else tensor.name
        grid = plan.activations.get(value)
        if grid is None or not is_narrow(grid) or value in moved or index in given:
            continue
        if tensor.zero_point.tolist() != [int(grid.zero_point)]:
            continue  # on its way there
        low, high = reach(file, index)
        if low < grid.qmin or high > grid.qmax:
            yield f"value {value!r} can hold codes {low} .. {high}, and its grid ends at {grid.qmin} and {grid.qmax}"


def _interface_problems(file: File, graph: Graph, plan: Plan | None) -> Iterator[str]:
    outputs: Mapping[str, Quantization] = {} if plan is None else plan.activations
    # Codes that a caller gives are limited behind the input.
    symmetric = plan is not None and plan.skeleton.symmetric
    inputs = {value: entry_grid(grid, symmetric=symmetric) for value, grid in outputs.items()}
    for kind, named, values, wanted in (
        ("input", file.inputs, graph.inputs, inputs),
        ("output", file.outputs, graph.outputs, outputs),
    ):
        expected = [value.name or "" for value in values]
        if list(named) != expected:
            yield f"the file's {kind}s are {list(named)} instead of {expected}"
        for name, index in named.items():
            tensor = file.tensors[index]
            if tensor.integer and name not in wanted:
                yield f"{kind} {name!r} is presented as codes, and the plan has no grid for it"
            elif tensor.integer:
                yield from _grid_problems(tensor, wanted[name], f"{kind} {name!r}")
