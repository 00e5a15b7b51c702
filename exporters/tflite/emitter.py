"""The state of an export: in which forms every value is stored so far, and how another form is made from one.

A value may be stored as real numbers or as codes on a grid, in any element order (``order.py``) and shape. An op asks
for the form that its kernel reads; what is missing is made once, by QUANTIZE, DEQUANTIZE, RESHAPE or TRANSPOSE, in that
order of preference, and remembered. So a transpose is written only where two ops really disagree, and is noted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import PlanError, UnsupportedOpError
from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.narrow import entry_grid, limit
from edgeq.exporters.tflite.order import Order
from edgeq.exporters.tflite.schema import options
from edgeq.exporters.tflite.values import Values
from edgeq.exporters.tflite.writer import Writer
from edgeq.graph.graph import Graph, attributes
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan, Unit
from edgeq.plan.quantization import Quantization
from edgeq.plan.stored import is_narrow

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Stored:
    """One form of a value in the file: ``grid`` is None for real numbers (and for integers and booleans)."""

    tensor: int
    shape: tuple[int, ...]
    order: Order
    grid: Quantization | None


class Emitter:
    """Reads and makes tensors for the ops of one model. Its plan has the grids as the file holds them."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan | None,
        values: Values,
        *,
        packed_int4: bool = False,
        hybrid: frozenset[Bits] = frozenset(),
    ) -> None:
        self.graph, self.plan, self.values = graph, plan, values
        self.packed_int4, self.hybrid = packed_int4, hybrid
        self.writer = Writer()
        self.notes: list[str] = []
        self.limits = 0
        self._stored: dict[str, list[Stored]] = {}

    # ---- facts -------------------------------------------------------------------------------------------------

    def shape(self, value: str) -> tuple[int, ...]:
        """Shape of a value in the graph's own axes, at batch 1."""
        return self.values.shapes[value]

    def constant(self, value: str | None) -> Array | None:
        """The array of a constant or of a value that follows from shapes; None if it is computed or absent."""
        if value is None:
            return None
        if value in self.values.static:
            return self.values.static[value]
        return self.graph.constant(value)

    def attributes(self, unit: Unit) -> dict[str, Any]:
        """Attributes of the unit's anchor node."""
        return attributes(self.graph.node(unit.name))

    def argument(self, unit: Unit, position: int) -> str | None:
        """Name of the anchor's input at that position, or None if it is omitted."""
        inputs = self.graph.node(unit.name).inputs
        value = inputs[position] if position < len(inputs) else None
        return None if value is None else value.name

    def data(self, unit: Unit) -> str:
        """Name of the anchor's first input."""
        value = self.argument(unit, 0)
        if value is None:
            raise self.refuse(unit, "its first input is omitted")
        return value

    def static(self, unit: Unit, position: int) -> Array | None:
        """The anchor's input at that position as an array; None if omitted.

        Raises:
            UnsupportedOpError: it is computed, where TFLite needs it known.
        """
        value = self.argument(unit, position)
        if value is None:
            return None
        array = self.constant(value)
        if array is None:
            raise self.refuse(unit, f"its input {value!r} is computed at run time")
        return array

    def refuse(self, unit: Unit, reason: str) -> UnsupportedOpError:
        """The error that says why a unit has no TFLite form."""
        return UnsupportedOpError(
            f"TFLite export: node {unit.name!r} ({unit.op}): {reason}; use the ONNX export, or replace it"
        )

    def grid(self, value: str) -> Quantization:
        """The grid that the plan gives a value."""
        assert self.plan is not None
        return self.plan.activations[value]

    def grid_for(self, unit: Unit, value: str) -> Quantization | None:
        """The grid on which the unit makes or reads a value; None for real numbers."""
        return self.grid(value) if unit.integer else None

    def entry(self, grid: Quantization) -> Quantization:
        """The grid of codes that are yet to be limited to a grid."""
        return entry_grid(grid, symmetric=self.plan is not None and self.plan.skeleton.symmetric)

    # ---- forms of values ---------------------------------------------------------------------------------------

    def define(self, value: str, stored: Stored) -> None:
        """Record a form of a value."""
        self._stored.setdefault(value, []).append(stored)

    def known(self, value: str) -> bool:
        """Whether the value exists in the file so far."""
        return value in self._stored

    def any(self, value: str, grid: Quantization | None) -> Stored:
        """A form of the value on that grid, in the order at hand; made by (de)quantizing if there is none."""
        if value not in self._stored:
            shape = self.shape(value)
            order = orders.natural(int(np.prod(shape)))
            return Stored(self._constant(value, grid, shape, order), shape, order, grid)
        forms = self._stored[value]
        for form in forms:
            if _same(form.grid, grid):
                return form
        base = next((form for form in forms if form.grid is not None), forms[0])
        return self._regrid(value, base, grid)

    def read(self, value: str, grid: Quantization | None, shape: Sequence[int], order: Order, why: str) -> int:
        """The tensor of a value on that grid, of exactly that stored shape and order."""
        if not self.known(value):
            return self._constant(value, grid, shape, order)
        base = self.any(value, grid)
        for form in self._stored[value]:
            if _same(form.grid, grid) and form.order == order:
                base = form
                if form.shape == tuple(shape):
                    return form.tensor
        if base.order != order:
            base = self._transpose(value, base, order, why)
        if base.shape != tuple(shape):
            base = self._reshape(value, base, shape)
        return base.tensor

    def axes(self, value: str, grid: Quantization | None) -> tuple[int, ...]:
        """The permutation of the value's axes in which it is at hand; the identity if its bytes are no permutation."""
        form = self.any(value, grid)
        found = orders.axis_permutation(form.order, self.shape(value), form.shape)
        return tuple(range(len(self.shape(value)))) if found is None else found

    def read_permuted(
        self,
        value: str,
        grid: Quantization | None,
        permutation: Sequence[int],
        why: str,
        shape: Sequence[int] | None = None,
    ) -> int:
        """The tensor of a value with its axes permuted; ``shape`` may widen its shape by axes of size 1."""
        full = self.shape(value) if shape is None else tuple(shape)
        stored = tuple(full[axis] for axis in permutation)
        return self.read(value, grid, stored, orders.permuted(full, permutation), why)

    def make(self, value: str, grid: Quantization | None, shape: Sequence[int], order: Order, label: str = "") -> int:
        """A new tensor for a value, recorded as a form of it unless it has a label (a step on the way)."""
        dtype = self.values.dtypes[value] if grid is None else code_dtype(grid)
        if dtype in ("float64", "bfloat16"):
            dtype = "float32"
        tensor = self.writer.tensor(f"{value}::{label}" if label else value, shape, dtype, grid)
        if not label:
            self.define(value, Stored(tensor, tuple(shape), order, grid))
        return tensor

    @contextmanager
    def made(self, value: str, grid: Quantization | None, shape: Sequence[int], order: Order) -> Iterator[int]:
        """The tensor that an op makes a value in; what saturates beyond the ends of its grid is limited behind it."""
        if grid is None or not is_narrow(grid):
            yield self.make(value, grid, shape, order)
            return
        entry = self.entry(grid)
        tensor = self.writer.tensor(f"{value}::unlimited", shape, code_dtype(grid), entry)
        yield tensor
        self._limit(tensor, self.make(value, grid, shape, order), entry, grid)

    def make_permuted(self, value: str, grid: Quantization | None, permutation: Sequence[int]) -> int:
        """A new tensor for a value with its axes permuted."""
        return self.make(value, grid, *self.permuted(value, permutation))

    def permuted(self, value: str, permutation: Sequence[int]) -> tuple[list[int], Order]:
        """Shape and element order of a value with its axes permuted."""
        shape = self.shape(value)
        return [shape[axis] for axis in permutation], orders.permuted(shape, permutation)

    def step(self, like: int, label: str, shape: Sequence[int], grid: Quantization | None, dtype: str = "") -> int:
        """An intermediate tensor, typed as another one."""
        kind = dtype or (self.writer.dtype(like) if grid is None else code_dtype(grid))
        return self.writer.tensor(label, shape, kind, grid)

    def indices(self, name: str, numbers: Sequence[Any] | Array | int) -> int:
        """An int32 constant: axes, pads, shapes."""
        wide = np.asarray(numbers, np.int64)
        if wide.size and (wide.min() < -(2**31) or wide.max() >= 2**31):
            raise UnsupportedOpError(f"TFLite export: {name} {wide.tolist()} does not fit 32 bits; use the ONNX export")
        return self.writer.constant(name, wide.astype(np.int32))

    # ---- making one form from another --------------------------------------------------------------------------

    def _constant(self, value: str, grid: Quantization | None, shape: Sequence[int], order: Order) -> int:
        array = self.constant(value)
        if array is None:
            raise PlanError(f"value {value!r} is read before any unit makes it")
        if grid is not None:
            assert self.plan is not None
            codes = self.plan.constants[value].codes if value in self.plan.constants else grid.quantize(array)
            array = codes.astype(code_dtype(grid))
        elif array.dtype.name in ("float64", "float16", "bfloat16"):
            array = array.astype(np.float32)
        found = orders.conversion(orders.natural(array.size), order)
        assert found is not None, "from the natural order every order can be reached"
        view, permutation = found
        return self.writer.constant(value, array.reshape(view).transpose(permutation).reshape(tuple(shape)), grid)

    def _regrid(self, value: str, base: Stored, grid: Quantization | None) -> Stored:
        code = "DEQUANTIZE" if grid is None else "QUANTIZE"
        suffix = "dequantized" if grid is None else "quantized"
        dtype = "float32" if grid is None else code_dtype(grid)
        entry = None if grid is None else self.entry(grid)
        tensor = self.writer.tensor(f"{value}::{suffix}", base.shape, dtype, entry)
        self.writer.operator(code, [base.tensor], [tensor], options("Dequantize" if grid is None else "Quantize"))
        return self.limited(value, replace(base, tensor=tensor, grid=entry), grid)

    def limited(self, value: str, base: Stored, grid: Quantization | None) -> Stored:
        """A form of the value on its grid, of codes that saturated at the ends of their type alone; recorded."""
        form = base
        if grid is not None and base.grid is not None and is_narrow(grid):
            tensor = self.writer.tensor(f"{value}::limited", base.shape, code_dtype(grid), grid)
            self._limit(base.tensor, tensor, base.grid, grid)
            form = replace(base, tensor=tensor, grid=grid)
        self.define(value, form)
        return form

    def _limit(self, source: int, target: int, entry: Quantization, grid: Quantization) -> None:
        limit(self.writer, source, target, entry, grid)
        self.limits += 1

    def _reshape(self, value: str, base: Stored, shape: Sequence[int]) -> Stored:
        tensor = self.writer.tensor(f"{value}::reshaped", shape, self.writer.dtype(base.tensor), base.grid)
        self.reshape(base.tensor, tensor, shape)
        form = replace(base, tensor=tensor, shape=tuple(int(size) for size in shape))
        self.define(value, form)
        return form

    def reshape(self, source: int, target: int, shape: Sequence[int]) -> None:
        """Append a RESHAPE."""
        sizes = [int(size) for size in shape]
        inputs = [source, self.indices("shape", sizes)]
        self.writer.operator("RESHAPE", inputs, [target], options("Reshape", newShape=sizes))

    def _transpose(self, value: str, base: Stored, order: Order, why: str) -> Stored:
        found = orders.conversion(base.order, order)
        if found is None:
            size = int(np.prod(base.shape))
            base = self._transpose(value, base, orders.natural(size), why)
            found = orders.conversion(base.order, order)
            assert found is not None, "from the natural order every order can be reached"
        view, permutation = found
        if base.shape != view:
            base = self._reshape(value, base, view)
        shape = tuple(view[axis] for axis in permutation)
        tensor = self.writer.tensor(f"{value}::transposed", shape, self.writer.dtype(base.tensor), base.grid)
        self.transpose(base.tensor, tensor, permutation)
        self.notes.append(f"transpose of {value!r}: {why}")
        form = Stored(tensor, shape, order, base.grid)
        self.define(value, form)
        return form

    def transpose(self, source: int, target: int, permutation: Sequence[int]) -> None:
        """Append a TRANSPOSE."""
        inputs = [source, self.indices("permutation", permutation)]
        self.writer.operator("TRANSPOSE", inputs, [target], options("Transpose"))


def code_dtype(grid: Quantization) -> str:
    """The type in which codes of that grid are stored: sub-byte codes lie in int8."""
    return "int8" if grid.bits <= 8 else "int16" if grid.bits <= 16 else "int32"


def _same(first: Quantization | None, second: Quantization | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.same_grid(second)
