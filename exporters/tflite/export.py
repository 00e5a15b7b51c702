"""Graph + plan -> the bytes of a .tflite file.

Every unit is written by its op's function (``ops/``); the emitter supplies operands in the form that the kernel reads.
The file holds batch 1, one subgraph, one signature ``serving_default`` with the model's own names, and metadata that
says how inputs and outputs are laid out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import onnx_ir as ir

from edgeq.errors import UnsupportedOpError
from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Emitter, Stored, code_dtype
from edgeq.exporters.tflite.limits import beyond
from edgeq.exporters.tflite.ops import OPS
from edgeq.exporters.tflite.values import examine
from edgeq.exporters.tflite.writer import check_size
from edgeq.graph.graph import Graph, name
from edgeq.graph.layout import channels_last, has_channels
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.stored import in_bytes, is_narrow
from edgeq.plan.units import group

Io = Literal["float32", "int8"]
Layout = Literal["NHWC", "NCHW"]

#: Metadata entry: JSON of {"inputs": {name: permutation of the ONNX axes}, "outputs": {...}}.
LAYOUT_KEY = "edgeq.layout"


@dataclass(frozen=True, eq=False)
class Export:
    """A written model.

    Attributes:
        data: the file.
        notes: every transpose that had to be written, and every integer unit that had to be computed in float, with
            the reason.
        layouts: input or output name -> how its ONNX axes are permuted in the file.
    """

    data: bytes
    notes: tuple[str, ...]
    layouts: Mapping[str, tuple[int, ...]]


def export(graph: Graph, plan: Plan | None, *, io: Io = "int8", layout: Layout = "NHWC") -> bytes:
    """The .tflite file of a graph under a plan; see :func:`build`."""
    return build(graph, plan, io=io, layout=layout).data


def build(
    graph: Graph,
    plan: Plan | None,
    *,
    io: Io = "int8",
    layout: Layout = "NHWC",
    packed_int4: bool = False,
    hybrid: frozenset[Bits] = frozenset(),
) -> Export:
    """Write a graph.

    Args:
        graph: in canonical form.
        plan: which units are integer, with all scales and codes; None writes the float32 model.
        io: "int8" presents quantized inputs and outputs as codes, "float32" as real numbers. What the plan leaves in
            float is real either way.
        layout: "NHWC" takes feature maps channels last, as the kernels do; "NCHW" as the graph does, at the price of a
            transpose.
        packed_int4: store 4-bit weights of FULLY_CONNECTED two a byte, which tflite-runtime 2.14 and TFLite Micro do
            not read; else they lie in int8, and run at its speed. Packed convolutions would not be delegated.
        hybrid: the weight-only formats whose codes the runtime's FULLY_CONNECTED multiplies with real activations,
            which it quantizes on the way. Codes of other formats are dequantized in the file, which every runtime can.

    Raises:
        UnsupportedOpError: a unit has no TFLite form; the message names it.
        PlanError: the plan asks for a format that no TFLite kernel has.
        TooLargeError: the file would pass 2 GiB.
    """
    check_size(_constant_bytes(graph, plan))
    plan = None if plan is None else in_bytes(plan)
    e = Emitter(graph, plan, examine(graph), packed_int4=packed_int4, hybrid=hybrid)
    # What follows from shapes alone is a constant of the file.
    units = tuple(
        unit
        for unit in (group(graph) if plan is None else plan.units)
        if not all(value in e.values.static for value in unit.outputs)
    )
    _check(units)
    empty = next((value for unit in units for value in unit.outputs if 0 in e.shape(value)), None)
    if empty is not None:
        raise UnsupportedOpError(f"TFLite export: value {empty!r} has no elements ({e.shape(empty)}); is a size wrong?")
    inputs = _write_inputs(e, io, layout)
    for unit in units:
        reason = beyond(plan, unit) if plan is not None else ""
        if reason:
            e.notes.append(f"{unit.op} {unit.name!r} is computed in float: no integer kernel takes {reason}")
        OPS[unit.op](e, replace(unit, integer=False) if reason else unit)
    outputs = _write_outputs(e, units, io, layout)
    e.notes += _narrow_notes(e)
    layouts = {key: permutation for key, (_, permutation) in (inputs | outputs).items()}
    metadata = json.dumps(
        {"inputs": {k: p for k, (_, p) in inputs.items()}, "outputs": {k: p for k, (_, p) in outputs.items()}}
    )
    data = e.writer.finish(
        {key: tensor for key, (tensor, _) in inputs.items()},
        {key: tensor for key, (tensor, _) in outputs.items()},
        {LAYOUT_KEY: metadata.encode()},
        "edgeq",
    )
    return Export(data, tuple(e.notes), layouts)


def _check(units: tuple[Unit, ...]) -> None:
    missing: dict[str, str] = {}
    for unit in units:
        if unit.op not in OPS:
            missing.setdefault(unit.op, unit.name)
    if missing:
        listing = ", ".join(f"{op} (node {node!r})" for op, node in missing.items())
        raise UnsupportedOpError(f"TFLite export does not write {listing}; use the ONNX export, or replace the op")


def _narrow_notes(e: Emitter) -> list[str]:
    """What became of activations of fewer than 8 bits."""
    narrow = [] if e.plan is None else [grid for grid in e.plan.activations.values() if is_narrow(grid)]
    if not narrow:
        return []
    widths = " and ".join(map(str, sorted({grid.bits for grid in narrow})))
    return [
        f"activations of {widths} bits lie in int8 and run at its speed; {e.limits} of {len(narrow)} values are "
        "limited to their grid by a QUANTIZE of their own, the others by what int8 kernels do anyway"
    ]


def _constant_bytes(graph: Graph, plan: Plan | None) -> int:
    """About what the constants will take in the file: known before any of them is copied."""
    codes = {} if plan is None else plan.weights
    return sum(
        codes[key].codes.size if key in codes else value.const_value.nbytes
        for key, value in graph.model.graph.initializers.items()
        if value.const_value is not None and value.const_value.dtype is not ir.DataType.STRING
    )


Presented = dict[str, tuple[int, tuple[int, ...]]]


def _write_inputs(e: Emitter, io: Io, layout: Layout) -> Presented:
    presented: Presented = {}
    for value in e.graph.inputs:
        key = name(value)
        shape = e.shape(key)
        last = layout == "NHWC" and len(shape) in (3, 4) and has_channels(e.graph, key)
        permutation = channels_last(len(shape)) if last else tuple(range(len(shape)))
        grid = e.plan.activations.get(key) if e.plan is not None and io == "int8" else None
        entry = None if grid is None else e.entry(grid)
        dtype = code_dtype(entry) if entry is not None else _plain(e.values.dtypes[key])
        stored = tuple(shape[axis] for axis in permutation)
        tensor = e.writer.tensor(key, stored, dtype, entry)
        e.limited(key, Stored(tensor, stored, orders.permuted(shape, permutation), entry), grid)
        presented[key] = tensor, permutation
    return presented


def _plain(dtype: str) -> str:
    return "float32" if dtype in ("float64", "float16", "bfloat16") else dtype


def _write_outputs(e: Emitter, units: tuple[Unit, ...], io: Io, layout: Layout) -> Presented:
    presented: Presented = {}
    taken: set[int] = set()
    makers = {value: unit for unit in units for value in unit.outputs}
    for value in e.graph.outputs:
        key = name(value)
        shape = e.shape(key)
        codes = key in makers and makers[key].integer and io == "int8" and e.plan is not None
        codes = codes and key in e.plan.activations  # type: ignore[union-attr]
        grid = e.grid(key) if codes else None
        identity = tuple(range(len(shape)))
        found = e.axes(key, grid)
        last = channels_last(len(shape))
        permutation = last if layout == "NHWC" and len(shape) == 4 and found == last else identity
        tensor = e.read_permuted(key, grid, permutation, f"output {key!r} is presented in the graph's own layout")
        if tensor in taken or not e.writer.computed(tensor):
            copy = e.make(key, grid, e.writer.shape(tensor), orders.permuted(shape, permutation), "output")
            e.reshape(tensor, copy, e.writer.shape(tensor))
            tensor = copy
        taken.add(tensor)
        presented[key] = tensor, permutation
    return presented


__all__ = ["LAYOUT_KEY", "Export", "build", "export"]
