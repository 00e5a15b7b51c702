"""One-input functions that TFLite lacks, in float, from the ops that it has."""

from collections.abc import Callable

import numpy as np

from edgeq.exporters.tflite.emitter import Emitter
from edgeq.exporters.tflite.ops.composed import Composer
from edgeq.exporters.tflite.schema import TENSOR_TYPES, options
from edgeq.plan.plan import Unit

#: x -> the last op's code and inputs.
Formula = Callable[[Composer, int, dict[str, float]], tuple[str, tuple[int, ...]]]


def function(formula: Formula) -> Callable[[Emitter, Unit], None]:
    """The writer of a one-input function."""

    def write(e: Emitter, unit: Unit) -> None:
        value = e.data(unit)
        form = e.any(value, None)
        c = Composer(e, unit)
        code, inputs = formula(c, form.tensor, e.attributes(unit))
        c.finish(code, *inputs, shape=form.shape, order=form.order)

    return write


def erf(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """Abramowitz and Stegun 7.1.26: |error| <= 1.5e-7, as large as float32's own rounding."""
    magnitude = c.op("ABS", x)
    t = c.op("DIV", c.number(1.0), c.op("ADD", c.op("MUL", magnitude, c.number(0.3275911)), c.number(1.0)))
    polynomial = c.number(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        polynomial = c.op("ADD", c.op("MUL", polynomial, t), c.number(coefficient))
    decay = c.op("EXP", c.op("NEG", c.op("MUL", x, x)))
    tail = c.op("SUB", c.number(1.0), c.op("MUL", c.op("MUL", polynomial, t), decay))
    return "MUL", (c.op("SIGN", x), tail)


def reciprocal(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """1 / x."""
    return "DIV", (c.number(1.0), x)


def _softplus(c: Composer, x: int) -> int:
    # max(x, 0) + log(1 + exp(-|x|)): exp cannot overflow.
    small = c.op("LOG", c.op("ADD", c.op("EXP", c.op("NEG", c.op("ABS", x))), c.number(1.0)))
    return c.op("ADD", c.op("MAXIMUM", x, c.number(0.0)), small)


def softplus(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """log(1 + exp(x))."""
    small = c.op("LOG", c.op("ADD", c.op("EXP", c.op("NEG", c.op("ABS", x))), c.number(1.0)))
    return "ADD", (c.op("MAXIMUM", x, c.number(0.0)), small)


def mish(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """x tanh(softplus(x))."""
    return "MUL", (x, c.op("TANH", _softplus(c, x)))


def swish(c: Composer, x: int, attributes: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """x sigmoid(alpha x)."""
    alpha = float(attributes.get("alpha", 1.0))
    return "MUL", (x, c.op("LOGISTIC", x if alpha == 1.0 else c.op("MUL", x, c.number(alpha))))


def softsign(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """x / (1 + |x|)."""
    return "DIV", (x, c.op("ADD", c.op("ABS", x), c.number(1.0)))


def _elu(c: Composer, x: int, alpha: float, inner: float) -> tuple[int, int]:
    negative = c.op("SUB", c.op("EXP", c.op("MUL", c.op("MINIMUM", x, c.number(0.0)), c.number(inner))), c.number(1.0))
    return c.op("MAXIMUM", x, c.number(0.0)), c.op("MUL", negative, c.number(alpha))


def selu(c: Composer, x: int, attributes: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """gamma * (x if x > 0 else alpha (exp(x) - 1))."""
    alpha = float(attributes.get("alpha", 1.6732631921768188))
    gamma = float(attributes.get("gamma", 1.0507010221481323))
    return "MUL", (c.op("ADD", *_elu(c, x, alpha, 1.0)), c.number(gamma))


def elu(c: Composer, x: int, attributes: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """X if x > 0 else alpha (exp(x) - 1)."""
    return "ADD", _elu(c, x, float(attributes.get("alpha", 1.0)), 1.0)


def celu(c: Composer, x: int, attributes: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1))."""
    alpha = float(attributes.get("alpha", 1.0))
    return "ADD", _elu(c, x, alpha, 1.0 / alpha)


def thresholded_relu(c: Composer, x: int, attributes: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """X if x > alpha else 0."""
    above = c.op("GREATER", x, c.number(float(attributes.get("alpha", 1.0))), dtype="bool")
    return "SELECT_V2", (above, x, c.number(0.0))


def tangent(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """sin(x) / cos(x)."""
    return "DIV", (c.op("SIN", x), c.op("COS", x))


def _half_difference(c: Composer, x: int, sign: str) -> tuple[str, tuple[int, ...]]:
    return "MUL", (c.op(sign, c.op("EXP", x), c.op("EXP", c.op("NEG", x))), c.number(0.5))


def sinh(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """(exp(x) - exp(-x)) / 2."""
    return _half_difference(c, x, "SUB")


def cosh(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """(exp(x) + exp(-x)) / 2."""
    return _half_difference(c, x, "ADD")


def asinh(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """Sign(x) log(|x| + sqrt(x^2 + 1)): nothing cancels for negative x."""
    root = c.op("SQRT", c.op("ADD", c.op("MUL", x, x), c.number(1.0)))
    return "MUL", (c.op("SIGN", x), c.op("LOG", c.op("ADD", c.op("ABS", x), root)))


def acosh(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """log(x + sqrt(x^2 - 1))."""
    return "LOG", (c.op("ADD", x, c.op("SQRT", c.op("SUB", c.op("MUL", x, x), c.number(1.0)))),)


def atanh(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """log((1 + x) / (1 - x)) / 2."""
    ratio = c.op("DIV", c.op("ADD", x, c.number(1.0)), c.op("SUB", c.number(1.0), x))
    return "MUL", (c.op("LOG", ratio), c.number(0.5))


def _across(c: Composer, x: int) -> int:
    """sqrt(1 - x^2), the other leg of the triangle."""
    return c.op("SQRT", c.op("MUL", c.op("SUB", c.number(1.0), x), c.op("ADD", c.number(1.0), x)))


def asin(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """atan2(x, sqrt(1 - x^2))."""
    return "ATAN2", (x, _across(c, x))


def acos(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """atan2(sqrt(1 - x^2), x)."""
    return "ATAN2", (_across(c, x), x)


def atan(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """atan2(x, 1); its kernel does not broadcast."""
    return "ATAN2", (x, c.op("ADD", c.op("MUL", x, c.number(0.0)), c.number(1.0)))


def shrink(c: Composer, x: int, attributes: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """X + bias below -lambda, x - bias above lambda, else 0."""
    limit, bias = float(attributes.get("lambd", 0.5)), float(attributes.get("bias", 0.0))
    moved = c.op("SUB", x, c.op("MUL", c.op("SIGN", x), c.number(bias)))
    outside = c.op("GREATER", c.op("ABS", x), c.number(limit), dtype="bool")
    return "SELECT_V2", (outside, moved, c.number(0.0))


def is_infinite(c: Composer, x: int, attributes: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """Beyond the largest number, on the sides that are asked for."""
    value = x
    if not attributes.get("detect_negative", 1):
        value = c.op("MAXIMUM", x, c.number(0.0))
    elif not attributes.get("detect_positive", 1):
        value = c.op("MINIMUM", x, c.number(0.0))
    return "GREATER", (c.op("ABS", value), c.number(float(np.finfo(np.float32).max)))


def is_nan(c: Composer, x: int, _: dict[str, float]) -> tuple[str, tuple[int, ...]]:
    """Not equal to itself."""
    return "NOT_EQUAL", (x, x)


def cast(e: Emitter, unit: Unit) -> None:
    """Cast -> CAST; nothing where the type stays."""
    value, result = e.data(unit), unit.outputs[0]
    form = e.any(value, None)
    source, wanted = e.writer.dtype(form.tensor), e.values.dtypes[result]
    wanted = "float32" if wanted in ("float64", "float16", "bfloat16") else wanted
    if wanted not in TENSOR_TYPES:
        raise e.refuse(unit, f"the type {wanted} has no counterpart")
    if source == wanted:
        e.define(result, form)
        return
    types = {"inDataType": TENSOR_TYPES[source], "outDataType": TENSOR_TYPES[wanted]}
    e.writer.operator("CAST", [form.tensor], [e.make(result, None, form.shape, form.order)], options("Cast", **types))
