"""Recurrent cells over a sequence: RNN, GRU and LSTM.

X is (time, batch, features), or (batch, time, features) in layout 1. Weights are (directions, gates x hidden, ...).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeq.errors import UnsupportedOpError
from edgeq.graph.ops.op import Op

Function = Callable[[Tensor], Tensor]
#: (this step's input contribution, states) -> new states; the first state is the output.
Cell = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]

# Name -> (function of x, alpha, beta; default alpha; default beta).
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor, float, float], Tensor], float | None, float | None]] = {
    "relu": (lambda x, a, b: torch.relu(x), None, None),
    "tanh": (lambda x, a, b: torch.tanh(x), None, None),
    "sigmoid": (lambda x, a, b: torch.sigmoid(x), None, None),
    "softsign": (lambda x, a, b: functional.softsign(x), None, None),
    "softplus": (lambda x, a, b: functional.softplus(x), None, None),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: functional.leaky_relu(x, a), 0.01, None),
    "thresholdedrelu": (lambda x, a, b: torch.where(x > a, x, torch.zeros_like(x)), 1.0, None),
    "scaledtanh": (lambda x, a, b: a * torch.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: torch.clamp(a * x + b, 0.0, 1.0), 0.2, 0.5),
    "elu": (lambda x, a, b: functional.elu(x, a), 1.0, None),
}


def rnn(
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_hidden: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """h = f(x W^T + h R^T + b)."""
    count = weight.shape[0]
    functions = _functions(activations or ["Tanh"] * count, activation_alpha, activation_beta)

    def cell(d: int) -> Cell:
        def step(contribution: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (hidden,) = states
            return (functions[d](_clipped(contribution + hidden @ recurrence[d].t(), clip)),)

        return step

    contributions = _contributions(_time_first(x, layout), weight, _summed(bias, recurrence.shape[1]))
    y, finals = _run(contributions, cell, direction, lengths, (initial_hidden,), recurrence.shape[2], layout)
    return _select(y, finals, layout, outputs)


def gru(
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_hidden: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Gated recurrent unit; the gates are in the order update, reset, hidden."""
    count, size = weight.shape[0], recurrence.shape[2]
    functions = _functions(activations or ["Sigmoid", "Tanh"] * count, activation_alpha, activation_beta)
    recurrent_bias = recurrence.new_zeros(count, 3 * size) if bias is None else bias[:, 3 * size :]
    input_bias = None if bias is None else bias[:, : 3 * size]

    def cell(d: int) -> Cell:
        gate, candidate = functions[2 * d : 2 * d + 2]
        gates_r, hidden_r = recurrence[d, : 2 * size].t(), recurrence[d, 2 * size :].t()
        gates_b, hidden_b = recurrent_bias[d, : 2 * size], recurrent_bias[d, 2 * size :]

        def step(contribution: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (hidden,) = states
            gates = gate(_clipped(contribution[:, : 2 * size] + hidden @ gates_r + gates_b, clip))
            update, reset = gates.chunk(2, -1)
            if linear_before_reset:
                recurrent = reset * (hidden @ hidden_r + hidden_b)
            else:
                recurrent = (reset * hidden) @ hidden_r + hidden_b
            proposed = candidate(_clipped(contribution[:, 2 * size :] + recurrent, clip))
            return ((1 - update) * proposed + update * hidden,)

        return step

    contributions = _contributions(_time_first(x, layout), weight, input_bias)
    y, finals = _run(contributions, cell, direction, lengths, (initial_hidden,), size, layout)
    return _select(y, finals, layout, outputs)


def lstm(
    x: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    initial_hidden: Tensor | None = None,
    initial_cell: Tensor | None = None,
    peepholes: Tensor | None = None,
    *,
    activation_alpha: Sequence[float] = (),
    activation_beta: Sequence[float] = (),
    activations: Sequence[str] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Long short-term memory; the gates are in the order input, output, forget, cell, the peepholes i, o, f."""
    count, size = weight.shape[0], recurrence.shape[2]
    functions = _functions(activations or ["Sigmoid", "Tanh", "Tanh"] * count, activation_alpha, activation_beta)
    peeps = weight.new_zeros(count, 3 * size) if peepholes is None else peepholes

    def cell(d: int) -> Cell:
        gate, candidate, squash = functions[3 * d : 3 * d + 3]
        recurrent = recurrence[d].t()
        peep_input, peep_output, peep_forget = peeps[d].chunk(3)

        def step(contribution: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden, memory = states
            i, o, f, c = (contribution + hidden @ recurrent).chunk(4, -1)
            i = gate(_clipped(i + peep_input * memory, clip))
            f = 1 - i if input_forget else gate(_clipped(f + peep_forget * memory, clip))
            memory = f * memory + i * candidate(_clipped(c, clip))
            o = gate(_clipped(o + peep_output * memory, clip))
            return o * squash(memory), memory

        return step

    contributions = _contributions(_time_first(x, layout), weight, _summed(bias, recurrence.shape[1]))
    initial = (initial_hidden, initial_cell)
    y, finals = _run(contributions, cell, direction, lengths, initial, size, layout)
    return _select(y, finals, layout, outputs)


def _time_first(x: Tensor, layout: int) -> Tensor:
    return x.transpose(0, 1) if layout else x


def _summed(bias: Tensor | None, width: int) -> Tensor | None:
    """The input's and the recurrence's biases, which always occur as a sum in RNN and LSTM."""
    return None if bias is None else bias[:, :width] + bias[:, width:]


def _contributions(x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Tensor]:
    """x W^T + b of every step at once, for each direction: (time, batch, gates x hidden)."""
    return [functional.linear(x, weight[d], None if bias is None else bias[d]) for d in range(weight.shape[0])]


def _clipped(x: Tensor, limit: float | None) -> Tensor:
    return x if limit is None else torch.clamp(x, -limit, limit)


def _run(
    contributions: Sequence[Tensor],
    cell: Callable[[int], Cell],
    direction: str,
    lengths: Tensor | None,
    initial: Sequence[Tensor | None],
    size: int,
    layout: int,
) -> tuple[Tensor, list[Tensor]]:
    """All directions; Y (time, directions, batch, hidden) and the final states (directions, batch, hidden)."""
    if direction not in ("forward", "reverse", "bidirectional"):
        raise UnsupportedOpError(f"direction {direction!r} is not in the ONNX standard")
    batch = contributions[0].shape[1]
    sequences, finals = [], []
    for d, contribution in enumerate(contributions):
        states = tuple(
            contribution.new_zeros(batch, size) if state is None else (state[:, d] if layout else state[d])
            for state in initial
        )
        backwards = direction == "reverse" or d == 1
        outputs, last = _run_direction(contribution, cell(d), states, lengths, backwards)
        sequences.append(outputs)
        finals.append(last)
    return torch.stack(sequences, 1), [torch.stack(states) for states in zip(*finals, strict=True)]


def _run_direction(
    contribution: Tensor, step: Cell, states: tuple[Tensor, ...], lengths: Tensor | None, backwards: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    time = contribution.shape[0]
    outputs: dict[int, Tensor] = {}
    for t in reversed(range(time)) if backwards else range(time):
        new = step(contribution[t], states)
        output = new[0]
        if lengths is not None:
            # A sequence that has ended keeps its states and puts out zeros.
            active = (lengths > t).reshape(-1, 1)
            new = tuple(torch.where(active, fresh, old) for fresh, old in zip(new, states, strict=True))
            output = torch.where(active, output, torch.zeros_like(output))
        states, outputs[t] = new, output
    if not outputs:
        return contribution.new_zeros(0, *states[0].shape), states
    return torch.stack([outputs[t] for t in range(time)]), states


def _select(y: Tensor, finals: Sequence[Tensor], layout: int, outputs: int) -> Tensor | tuple[Tensor, ...]:
    if layout:
        y, finals = y.permute(2, 0, 1, 3), [state.transpose(0, 1) for state in finals]
    results = (y, *finals)
    return y if outputs == 1 else results[:outputs]


def _functions(names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]) -> list[Function]:
    """The activation functions; each takes its parameters from the lists in order, if it has any."""
    alpha, beta = iter(alphas), iter(betas)
    result = []
    for activation in names:
        if activation.lower() not in _ACTIVATIONS:
            raise UnsupportedOpError(f"activation {activation!r} of a recurrent cell is not in the ONNX standard")
        function, default_alpha, default_beta = _ACTIVATIONS[activation.lower()]
        a = default_alpha if default_alpha is None else next(alpha, default_alpha)
        b = default_beta if default_beta is None else next(beta, default_beta)
        result.append(_bound(function, a or 0.0, b or 0.0))
    return result


def _bound(function: Callable[[Tensor, float, float], Tensor], alpha: float, beta: float) -> Function:
    return lambda x: function(x, alpha, beta)


OPS = {
    ("", "GRU"): Op(gru),
    ("", "LSTM"): Op(lstm),
    ("", "RNN"): Op(rnn),
}
