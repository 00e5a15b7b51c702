"""Recurrent cells with random attributes equal ONNX Runtime's."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
_TIME, _BATCH, _FEATURES, _HIDDEN = 5, 3, 4, 6
_EACH = st.sampled_from(["forward", "reverse", "bidirectional"])


def _arrays(op: str, directions: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape).astype(np.float32) * np.float32(0.5)

    gates = _GATES[op]
    return {
        "x": normal(_TIME, _BATCH, _FEATURES),
        "w": normal(directions, gates * _HIDDEN, _FEATURES),
        "r": normal(directions, gates * _HIDDEN, _HIDDEN),
        "b": normal(directions, 2 * gates * _HIDDEN),
        "lengths": random.integers(1, _TIME + 1, _BATCH).astype(np.int32),
        "h": normal(directions, _BATCH, _HIDDEN),
        "c": normal(directions, _BATCH, _HIDDEN),
        "p": normal(directions, 3 * _HIDDEN),
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    op=st.sampled_from(list(_GATES)),
    direction=_EACH,
    bias=st.booleans(),
    lengths=st.booleans(),
    initial=st.booleans(),
    variant=st.integers(0, 1),
    clip=st.sampled_from([None, 0.5]),
    seed=st.integers(0, 9),
)
def test_cell(
    op: str,
    direction: str,
    bias: bool,
    lengths: bool,
    initial: bool,
    variant: int,
    clip: float | None,
    seed: int,
    agrees: Any,
) -> None:
    a = _arrays(op, 2 if direction == "bidirectional" else 1, seed)
    inputs = [a["x"], a["w"], a["r"], a["b"] if bias else None, a["lengths"] if lengths else None]
    inputs.append(a["h"] if initial else None)
    if op == "LSTM":
        inputs += [a["c"] if initial else None, a["p"] if variant else None]
    attributes: dict[str, Any] = {"direction": direction, "hidden_size": _HIDDEN}
    if op == "GRU":
        attributes["linear_before_reset"] = variant
    if clip is not None:
        attributes["clip"] = clip
    while inputs[-1] is None:
        inputs.pop()
    agrees(op, inputs, constant={1, 2, 3}, outputs=3 if op == "LSTM" else 2, **attributes)


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Affine", "ScaledTanh"])
def test_other_activations(activation: str, agrees: Any) -> None:
    a = _arrays("RNN", 1, 0)
    attributes: dict[str, Any] = {"activations": [activation], "hidden_size": _HIDDEN}
    if activation in ("LeakyRelu", "HardSigmoid", "Elu", "Affine", "ScaledTanh"):
        attributes["activation_alpha"] = [0.3]
    if activation in ("HardSigmoid", "Affine", "ScaledTanh"):
        attributes["activation_beta"] = [0.4]
    agrees("RNN", [a["x"] * 0.1, a["w"], a["r"] * 0.1, a["b"]], constant={1, 2, 3}, outputs=2, **attributes)
