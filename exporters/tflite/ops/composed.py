"""Float ops that TFLite lacks, written as a few ops that it has."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeq.exporters.tflite.emitter import Emitter
from edgeq.exporters.tflite.order import Order
from edgeq.exporters.tflite.schema import options
from edgeq.plan.plan import Unit

_KINDS = {
    "ADD": "Add", "SUB": "Sub", "MUL": "Mul", "DIV": "Div", "EXP": "Exp", "ABS": "Abs", "NEG": "Neg", "SIGN": "Sign",
    "MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum", "POW": "Pow", "SELECT_V2": "SelectV2",
    "ATAN2": "ATan2", "SQUARED_DIFFERENCE": "SquaredDifference", "GREATER": "Greater", "NOT_EQUAL": "NotEqual",
    "SQUARE": "Square",
}  # fmt: skip


class Composer:
    """Appends float ops one by one; shapes follow from broadcasting."""

    def __init__(self, e: Emitter, unit: Unit) -> None:
        self.e, self.unit = e, unit
        self._label = f"{unit.outputs[0]}::step"

    def op(self, code: str, *inputs: int, shape: Sequence[int] | None = None, dtype: str = "float32") -> int:
        """Append an elementwise op and give its result."""
        result_shape = np.broadcast_shapes(*map(self.e.writer.shape, inputs)) if shape is None else tuple(shape)
        result = self.e.writer.tensor(self._label, result_shape, dtype)
        kind = _KINDS.get(code)
        self.e.writer.operator(code, inputs, [result], None if kind is None else options(kind))
        return result

    def reduce(self, code: str, source: int, axes: Sequence[int]) -> int:
        """Append a reduction that keeps its axes at size 1."""
        shape = [1 if axis in axes else size for axis, size in enumerate(self.e.writer.shape(source))]
        result = self.e.writer.tensor(self._label, shape, "float32")
        inputs = [source, self.e.indices("axes", sorted(axes))]
        self.e.writer.operator(code, inputs, [result], options("Reducer", keepDims=True))
        return result

    def number(self, value: float) -> int:
        """A scalar constant."""
        return self.e.writer.constant("number", np.full((1,), value, np.float32))

    def array(self, value: Any) -> int:
        """A constant array."""
        return self.e.writer.constant("numbers", np.asarray(value, np.float32))

    def finish(self, code: str, *inputs: int, shape: Sequence[int] | None = None, order: Order) -> None:
        """Append the op that makes the unit's output."""
        value = self.unit.outputs[0]
        result_shape = np.broadcast_shapes(*map(self.e.writer.shape, inputs)) if shape is None else tuple(shape)
        kind = _KINDS.get(code)
        target = self.e.make(value, None, result_shape, order)
        self.e.writer.operator(code, inputs, [target], None if kind is None else options(kind))
