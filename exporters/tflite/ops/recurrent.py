"""LSTM, GRU and RNN in float, step by step: the number of steps is fixed in the file.

The products with the inputs of all steps are one FULLY_CONNECTED; every step then adds its product with the state. Gate
orders are the ONNX standard's: LSTM i o f c, GRU z r h.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeq.exporters.tflite import order as orders
from edgeq.exporters.tflite.emitter import Array, Emitter
from edgeq.exporters.tflite.ops.composed import Composer
from edgeq.exporters.tflite.schema import options
from edgeq.plan.plan import Unit

#: Beyond that a file of single steps is larger and slower than a cut model would be.
LONGEST = 1024

_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@dataclass(frozen=True, eq=False)
class _Cell:
    """One direction of a recurrent node.

    Attributes:
        c: appends ops.
        recurrent: (gates * hidden, hidden).
        bias: (gates * hidden,) of the recurrent product where it must stay apart from the input's.
        hidden: size of the state.
        batch: rows of the state.
        reset_after: GRU's linear_before_reset.
    """

    c: Composer
    recurrent: Array
    bias: Array
    hidden: int
    batch: int
    reset_after: bool = False


def recurrent(e: Emitter, unit: Unit) -> None:
    """A recurrent node as single steps.

    Raises:
        UnsupportedOpError: sequence lengths, peepholes, clipping, other activations or layout 1.
    """
    attributes = e.attributes(unit)
    _refuse_variants(e, unit)
    value = e.data(unit)
    steps, batch, width = e.shape(value)
    if steps > LONGEST:
        raise e.refuse(unit, f"{steps} steps would be written one by one; the most is {LONGEST}")
    weights, products = e.static(unit, 1), e.static(unit, 2)
    assert weights is not None
    assert products is not None
    gates = _GATES[unit.op] * products.shape[-1]
    biases = e.static(unit, 3)
    biases = np.zeros((len(weights), 2 * gates), np.float32) if biases is None else biases
    source = e.read(value, None, (steps * batch, width), orders.natural(steps * batch * width), _why(unit))
    c = Composer(e, unit)
    runs = []
    direction = str(attributes.get("direction", "forward"))
    for index in range(len(weights)):
        runs.append(_direction(e, unit, c, source, index, weights[index], products[index], biases[index], direction))
    _define(e, unit, c, runs)


_Run = tuple[list[int], tuple[int, ...]]


def _direction(
    e: Emitter,
    unit: Unit,
    c: Composer,
    source: int,
    index: int,
    weight: Array,
    product: Array,
    bias: Array,
    direction: str,
) -> _Run:
    """(hidden state after every step, last state) of one direction."""
    hidden, gates = product.shape[-1], product.shape[0]
    reset_after = bool(e.attributes(unit).get("linear_before_reset", 0))
    own, other = bias[:gates], bias[gates:]
    apart = unit.op == "GRU" and reset_after
    value = e.data(unit)
    steps, batch, _ = e.shape(value)
    inputs = _dense(c, source, weight, own if apart else own + other)
    cell = _Cell(c, product, other if apart else np.zeros_like(other), hidden, batch, reset_after)
    state = tuple(_initial(e, unit, c, position, index, batch, hidden) for position in _states(unit))
    backwards = direction == "reverse" or index == 1
    found: list[int] = []
    for step in reversed(range(steps)) if backwards else range(steps):
        row = inputs if steps == 1 else _slice(c, inputs, (step * batch, 0), (batch, gates))
        state = _STEPS[unit.op](cell, row, state)
        found.append(state[0])
    return (found[::-1] if backwards else found), state


def _lstm(cell: _Cell, row: int, state: tuple[int, ...]) -> tuple[int, ...]:
    c, (hidden, memory) = cell.c, state
    total = c.op("ADD", row, _dense(c, hidden, cell.recurrent, cell.bias))
    i, o, f, g = _split(c, total, 4)
    kept = c.op("MUL", c.op("LOGISTIC", f), memory)
    memory = c.op("ADD", kept, c.op("MUL", c.op("LOGISTIC", i), c.op("TANH", g)))
    return c.op("MUL", c.op("LOGISTIC", o), c.op("TANH", memory)), memory


def _gru(cell: _Cell, row: int, state: tuple[int, ...]) -> tuple[int, ...]:
    c, (hidden,), size = cell.c, state, cell.hidden
    z_in, r_in, h_in = _split(c, row, 3)
    if cell.reset_after:
        z_state, r_state, h_state = _split(c, _dense(c, hidden, cell.recurrent, cell.bias), 3)
        r = c.op("LOGISTIC", c.op("ADD", r_in, r_state))
        candidate = c.op("TANH", c.op("ADD", h_in, c.op("MUL", r, h_state)))
    else:
        z_state, r_state = _split(c, _dense(c, hidden, cell.recurrent[: 2 * size], cell.bias[: 2 * size]), 2)
        r = c.op("LOGISTIC", c.op("ADD", r_in, r_state))
        product = _dense(c, c.op("MUL", r, hidden), cell.recurrent[2 * size :], cell.bias[2 * size :])
        candidate = c.op("TANH", c.op("ADD", h_in, product))
    z = c.op("LOGISTIC", c.op("ADD", z_in, z_state))
    # (1 - z) h~ + z h
    return (c.op("ADD", candidate, c.op("MUL", z, c.op("SUB", hidden, candidate))),)


def _rnn(cell: _Cell, row: int, state: tuple[int, ...]) -> tuple[int, ...]:
    product = _dense(cell.c, state[0], cell.recurrent, cell.bias)
    return (cell.c.op("TANH", cell.c.op("ADD", row, product)),)


_STEPS: dict[str, Callable[[_Cell, int, tuple[int, ...]], tuple[int, ...]]] = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def _define(e: Emitter, unit: Unit, c: Composer, runs: Sequence[_Run]) -> None:
    """Y (steps, directions, batch, hidden), Y_h and Y_c (directions, batch, hidden), where they are asked for."""
    names = [output.name or "" for output in e.graph.node(unit.name).outputs]
    for position, name in enumerate(names):
        if not name:
            continue
        if position == 0:
            tensors = [run[0][step] for step in range(len(runs[0][0])) for run in runs]
        else:
            tensors = [run[1][position - 1] for run in runs]
        shape = e.shape(name)
        size = int(np.prod(shape))
        rows, hidden = size // shape[-1], shape[-1]
        target = e.make(name, None, (rows, hidden), orders.natural(size))
        if len(tensors) == 1:
            e.reshape(tensors[0], target, (rows, hidden))
        else:
            e.writer.operator("CONCATENATION", tensors, [target], options("Concatenation", axis=0))


def _states(unit: Unit) -> tuple[int, ...]:
    return (5, 6) if unit.op == "LSTM" else (5,)


def _initial(e: Emitter, unit: Unit, c: Composer, position: int, index: int, batch: int, hidden: int) -> int:
    value = e.argument(unit, position)
    if value is None:
        return c.array(np.zeros((batch, hidden), np.float32))
    directions = e.shape(value)[0]
    rows = e.read(value, None, (directions * batch, hidden), orders.natural(directions * batch * hidden), _why(unit))
    return rows if directions == 1 else _slice(c, rows, (index * batch, 0), (batch, hidden))


def _dense(c: Composer, x: int, weight: Array, bias: Array) -> int:
    result = c.e.writer.tensor(f"{c.unit.outputs[0]}::step", (c.e.writer.shape(x)[0], len(weight)), "float32")
    inputs = [x, c.array(weight), c.array(bias)]
    c.e.writer.operator("FULLY_CONNECTED", inputs, [result], options("FullyConnected"))
    return result


def _slice(c: Composer, x: int, begin: Sequence[int], size: Sequence[int]) -> int:
    result = c.e.writer.tensor(f"{c.unit.outputs[0]}::step", size, "float32")
    c.e.writer.operator(
        "SLICE", [x, c.e.indices("begin", begin), c.e.indices("size", size)], [result], options("Slice")
    )
    return result


def _split(c: Composer, x: int, parts: int) -> list[int]:
    rows, columns = c.e.writer.shape(x)
    size = (rows, columns // parts)
    results = [c.e.writer.tensor(f"{c.unit.outputs[0]}::step", size, "float32") for _ in range(parts)]
    axis = c.e.indices("axis", 1)
    c.e.writer.operator_version("SPLIT", 1, [axis, x], results, options("Split", numSplits=parts))
    return results


def _why(unit: Unit) -> str:
    return f"{unit.op} {unit.name!r} reads its steps in order"


def _refuse_variants(e: Emitter, unit: Unit) -> None:
    attributes = e.attributes(unit)
    directions = 2 if attributes.get("direction", "forward") == "bidirectional" else 1
    if list(attributes.get("activations") or []) not in ([], _DEFAULTS[unit.op] * directions):
        raise e.refuse(unit, "activations other than sigmoid and tanh")
    for name in ("clip", "layout", "input_forget"):
        if attributes.get(name):
            raise e.refuse(unit, f"attribute {name}")
    if e.argument(unit, 4) is not None:
        raise e.refuse(unit, "sequence lengths")
    if unit.op == "LSTM" and e.argument(unit, 7) is not None:
        raise e.refuse(unit, "peepholes")
