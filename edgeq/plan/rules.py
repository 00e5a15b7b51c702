"""Decide what is integer and why, and which values must share a grid: graph + bits + device rules -> skeleton.

The rules are the strictest of the chosen runtimes, so that one plan serves every file (see ``edgeq.plan.ops``):
equal grids through concat, pool, reshape and pad; the grids that LiteRT prescribes for softmax, sigmoid and tanh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType

import numpy as np
from scipy.cluster.hierarchy import DisjointSet

from edgeq.errors import PlanError
from edgeq.graph.graph import Graph
from edgeq.graph.passes.fold_batchnorm import output_axis
from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.branches import Prescribed, computed_on, readers_of
from edgeq.plan.heads import post_processing
from edgeq.plan.islands import without_islands
from edgeq.plan.masks import computed_masks
from edgeq.plan.ops import ELEMENTWISE, FIXED, IN_BLOCKS, INTEGER, ONLY_8_BITS, SAME_GRID, WEIGHTED
from edgeq.plan.plan import Skeleton, Unit
from edgeq.plan.quantization import Quantization
from edgeq.plan.spectra import spectra
from edgeq.plan.units import group

_HUGE = 1e9
_SMALLEST_FLOATS = ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")


@dataclass(frozen=True)
class Request:
    """What the user and the devices ask of the plan.

    Attributes:
        bits: the format of every unit that has no override.
        overrides: (glob, bits): the last match on a module path, node or value name wins.
        per_channel: a scale per output channel of a weight.
        symmetric: activations with zero point 0.
        power_of_two: every scale a power of two.
    """

    bits: Bits = field(default_factory=lambda: Bits(8, 8))
    overrides: Sequence[tuple[str, Bits]] = ()
    per_channel: bool = True
    symmetric: bool = False
    power_of_two: bool = False


def decide(graph: Graph, request: Request, apart: Mapping[str, str] = MappingProxyType({})) -> Skeleton:
    """The skeleton of the plan.

    Args:
        graph: the model.
        request: what is asked of it.
        apart: unit name -> why it is left in float, where samples have shown that
            (:func:`edgeq.plan.branches.too_different`).

    Raises:
        PlanError: an override matches nothing.
    """
    units = group(graph)
    bits = _bits_by_unit(units, request)
    bits = {unit.name: _blocked(graph, unit, bits[unit.name]) for unit in units}
    # Whoever asks for integers by name gets them.
    asked = {unit.name for unit in units for pattern, _ in request.overrides if matches(unit, pattern)}
    known = {**post_processing(graph, units), **computed_masks(graph, units), **spectra(graph, units), **apart}
    left = {name: why for name, why in known.items() if name not in asked}
    decided = without_islands(graph, _decide_units(graph, units, bits, left), asked)
    bits = {
        unit.name: bits[unit.name] if unit.integer or bits[unit.name].activations is None else FLOAT for unit in decided
    }
    groups = _groups(graph, decided)
    fixed, clamps = _fixed(decided, groups, bits), _clamps(decided, groups)
    return Skeleton(
        units=decided,
        bits=bits,
        groups=groups,
        fixed=fixed,
        clamps=clamps,
        per_channel=request.per_channel,
        symmetric=request.symmetric,
        power_of_two=request.power_of_two,
        centred=_centred(decided, groups) - fixed.keys() - {key for key, (low, _) in clamps.items() if low >= 0},
    )


def matches(unit: Unit, pattern: str) -> bool:
    """Whether a glob names a unit, by its module path (or one inside), node names or output values."""
    candidates = [unit.name, *unit.nodes, *unit.outputs, unit.module]
    return any(fnmatchcase(candidate, pattern) for candidate in candidates if candidate)


def _blocked(graph: Graph, unit: Unit, bits: Bits) -> Bits:
    """The format without its blocks where a unit's weight cannot be cut in them: it has a scale per channel then."""
    weight = graph.constant(unit.weight) if unit.weight is not None and unit.op in IN_BLOCKS else None
    if bits.block is None or (
        weight is not None and weight.shape[1 - output_axis(graph.node(unit.name))] % bits.block == 0
    ):
        return bits
    return replace(bits, block=None)


def _bits_by_unit(units: tuple[Unit, ...], request: Request) -> dict[str, Bits]:
    bits = dict.fromkeys((unit.name for unit in units), request.bits)
    for pattern, override in request.overrides:
        chosen = [unit.name for unit in units if matches(unit, pattern)]
        if not chosen:
            known = ", ".join(sorted({unit.module or unit.name for unit in units if unit.op in WEIGHTED})[:6])
            raise PlanError(f"{pattern!r} matches no layer; layers are for example {known}")
        bits.update(dict.fromkeys(chosen, override))
    return bits


def _decide_units(
    graph: Graph, units: tuple[Unit, ...], bits: Mapping[str, Bits], left: Mapping[str, str]
) -> tuple[Unit, ...]:
    reasons = {unit.name: _why_float(graph, unit, bits[unit.name]) or left.get(unit.name, "") for unit in units}
    readers = readers_of([replace(unit, integer=not reasons[unit.name]) for unit in units])
    decided: list[Unit] = []
    quantized: set[str] = set()
    prescribed = Prescribed()
    for unit in units:
        reason = reasons[unit.name] or prescribed.conflict(graph, unit) or _why_loose(graph, unit, quantized, readers)
        if not reason and unit.weight is None and not (set(unit.inputs) & quantized):
            reason = "" if _feeds_weights(graph, unit) else "nothing before it is integer"
        decided.append(replace(unit, integer=not reason, reason=reason or f"integer {bits[unit.name]}"))
        if not reason:
            quantized.update(unit.outputs)
    return tuple(decided)


def _why_loose(graph: Graph, unit: Unit, quantized: set[str], readers: Mapping[str, Sequence[Unit]]) -> str:
    """Why a Concat at the end, of which a branch is float already, does not put that branch on a grid; or ""."""
    if unit.op != "Concat" or computed_on(unit.outputs[0], readers):
        return ""
    loose = [value for value in unit.inputs if graph.constant(value) is None and value not in quantized]
    return f"joins {loose[0]!r}, which is float, and no layer reads the result" if loose else ""


def _feeds_weights(graph: Graph, unit: Unit) -> bool:
    # A pad, reshape or transpose of the input before the first convolution belongs to the integer part.
    # One that takes rows of a constant table by computed indices reads no codes: the table stays real.
    return (
        bool(unit.inputs)
        and unit.op in SAME_GRID
        and all(any(reader.op_type in WEIGHTED for reader in graph.consumers(value)) for value in unit.outputs)
    )


def _why_float(graph: Graph, unit: Unit, bits: Bits) -> str:
    """The reason why a unit cannot be integer, or ""."""
    if bits == FLOAT:
        return "left in float as asked"
    if bits.activations is None:
        return (
            f"weight-only {bits}" if unit.weight is not None else "weight-only quantization keeps activations in float"
        )
    if any(not _is_float(graph, value) for value in (*unit.inputs, *unit.outputs)):
        return "computes shapes or indices"
    if unit.op not in INTEGER:
        return f"{unit.op} has no integer kernel in ONNX Runtime or LiteRT"
    if bits.activations == 16 and unit.op in ONLY_8_BITS:
        return f"{unit.op} has a kernel on 8-bit codes only"
    if unit.op in WEIGHTED and unit.weight is None and unit.op != "MatMul":
        return f"{unit.op} has weights that are not constant, or alpha, beta or transA that no integer kernel takes"
    if unit.op == "MatMul" and unit.weight is None and len(unit.inputs) < 2:
        return "its constant is the left operand or has more than two axes, which is no weight of an integer kernel"
    if unit.op in ELEMENTWISE and all(graph.constant(value) is not None for value in unit.inputs):
        return "computes on constants"
    return _why_float_form(graph, unit)


def _why_float_form(graph: Graph, unit: Unit) -> str:
    node = graph.node(unit.name)
    if unit.op == "Pad" and node.attributes.get_string("mode", "constant") != "constant":
        return "only constant padding has an integer kernel"
    if unit.op == "Pad" and len(node.inputs) > 2 and node.inputs[2] is not None:
        fill = graph.constant(node.inputs[2])
        if fill is None or float(np.asarray(fill).reshape(())) != 0.0:
            return "only padding with zero has an integer kernel"
    if unit.op in ELEMENTWISE and any(_is_mask(graph, value) for value in unit.inputs):
        return "adds a mask of huge numbers, beside which all others would round to one code"
    if unit.op == "Clip" and unit.clamp is None:
        return "the bounds of Clip are computed"
    if unit.op == "Resize" and node.attributes.get_string("mode", "nearest") == "cubic":
        return "cubic resizing has no integer kernel"
    return ""


def _is_mask(graph: Graph, value: str) -> bool:
    """Whether a constant operand holds infinity, or the -3.4e38 that stands for it in attention masks."""
    array = graph.constant(value)
    return array is not None and array.size > 0 and bool((~(np.abs(array) < _HUGE)).any())


def _is_float(graph: Graph, value_name: str) -> bool:
    dtype = graph.value(value_name).dtype
    return dtype is None or dtype.name in _SMALLEST_FLOATS


def _groups(graph: Graph, units: tuple[Unit, ...]) -> dict[str, str]:
    """Of every quantized value the one that stands for its group: same-grid units tie their inputs and outputs."""
    groups = DisjointSet()
    for unit in units:
        if not unit.integer:
            continue
        tensors = [v for v in (*unit.inputs, *unit.outputs) if graph.constant(v) is None]
        for value in tensors:
            groups.add(value)
            if unit.op in SAME_GRID:
                groups.merge(tensors[0], value)
    return {value: groups[value] for value in groups}


def _fixed(units: tuple[Unit, ...], groups: Mapping[str, str], bits: Mapping[str, Bits]) -> dict[str, Quantization]:
    fixed: dict[str, Quantization] = {}
    for unit in units:
        if unit.integer and unit.op in FIXED:
            width = 16 if bits[unit.name].activations == 16 else 8
            fixed[groups[unit.outputs[0]]] = FIXED[unit.op][width]
    return fixed


def _centred(units: tuple[Unit, ...], groups: Mapping[str, str]) -> frozenset[str]:
    """The groups of right operands of products of two activations."""
    right = (unit.inputs[1] for unit in units if unit.integer and unit.op == "MatMul" and unit.weight is None)
    return frozenset(groups[value] for value in right if value in groups)


def _clamps(units: tuple[Unit, ...], groups: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Bounds of a group's range: where every value in it that is not merely passed on comes out of a clamp."""
    bounds: dict[str, list[tuple[float, float] | None]] = {}
    made = {value for unit in units if unit.integer for value in unit.outputs}
    for unit in units:
        for value in unit.outputs if unit.integer else ():
            if unit.op not in SAME_GRID:
                bounds.setdefault(groups[value], []).append(unit.clamp)
    for value, representative in groups.items():
        if value not in made:
            bounds.setdefault(representative, []).append(None)
    result = {}
    for representative, found in bounds.items():
        known = [bound for bound in found if bound is not None]
        if known and len(known) == len(found):
            result[representative] = (min(low for low, _ in known), max(high for _, high in known))
    return result


def unit_of_value(units: Sequence[Unit], value: str) -> Unit | None:
    """The unit that makes a value, or None for an input of the graph."""
    return next((unit for unit in units if value in unit.outputs), None)


__all__ = ["Request", "decide", "matches", "unit_of_value"]
