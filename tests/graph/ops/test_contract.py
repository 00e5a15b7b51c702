"""What every op of the table promises: typed signature, gradients, no change to its inputs."""

import inspect
from collections import Counter
from typing import Any

import pytest
import torch

from edgeq.graph.ops import FAMILIES, OPS

x = torch.linspace(-2, 2, 48, dtype=torch.float64).reshape(1, 3, 4, 4)
vector = torch.linspace(0.5, 1.5, 3, dtype=torch.float64)
kernel = torch.linspace(-1, 1, 27 * 2, dtype=torch.float64).reshape(2, 3, 3, 3)
sequence = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 2, 3)
gates = torch.linspace(-1, 1, 24, dtype=torch.float64)

# Op -> inputs and attributes at which the op is smooth.
_SMOOTH: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "Conv": ((x, kernel, None), {"pads": [1, 0, 1, 2]}),
    "ConvTranspose": ((x, kernel.transpose(0, 1).contiguous()), {"strides": [2, 2], "pads": [0, 1, 1, 1]}),
    "Gemm": ((x[0, 0], x[0, 1], x[0, 2]), {"alpha": 0.5, "transB": 1}),
    "MatMul": ((x, x), {}),
    "MaxPool": ((x,), {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}),
    "AveragePool": ((x,), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "LayerNormalization": ((x, vector[:1].expand(4)), {}),
    "InstanceNormalization": ((x, vector, vector), {}),
    "BatchNormalization": ((x, vector, vector, vector, vector), {}),
    "Softmax": ((x,), {"axis": 1}),
    "Resize": ((x, None, None, [1, 3, 7, 3]), {"mode": "cubic"}),
    "Pad": ((x, [0, 0, 1, 0, 0, 0, 2, 1]), {"mode": "reflect"}),
    "Slice": ((x, [3], [-9], [2], [-1]), {}),
    "Gather": ((x, [2, 0]), {"axis": 1}),
    "Gelu": ((x,), {"approximate": "tanh"}),
    "HardSwish": ((x + 0.01,), {}),
    "PRelu": ((x, vector.reshape(3, 1, 1)), {}),
    "ReduceL2": ((x, [1]), {}),
    "LSTM": ((sequence, gates.reshape(1, 8, 3), gates[:16].reshape(1, 8, 2)), {}),
    "GRU": ((sequence, gates[:18].reshape(1, 6, 3), gates[:12].reshape(1, 6, 2)), {}),
    "Attention": ((x, x, x), {"is_causal": 1}),
    "Einsum": ((x, x), {"equation": "bcij,bckj->bcik"}),
    "DepthToSpace": ((x.reshape(1, 12, 2, 2),), {"blocksize": 2}),
    "DequantizeLinear": ((x, vector[0]), {}),
}


@pytest.mark.parametrize("op", _SMOOTH)
def test_gradients_are_those_of_finite_differences_and_inputs_stay(op: str) -> None:
    positional, attributes = _SMOOTH[op]
    tensors = [item for item in positional if isinstance(item, torch.Tensor)]
    before = [tensor.clone() for tensor in tensors]

    def apply(*moved: torch.Tensor) -> torch.Tensor:
        feed = iter(moved)
        result = OPS["", op].function(
            *(next(feed) if isinstance(i, torch.Tensor) else i for i in positional), **attributes
        )
        assert isinstance(result, torch.Tensor)
        return result

    assert torch.autograd.gradcheck(apply, [tensor.clone().requires_grad_() for tensor in tensors], atol=1e-5)
    apply(*tensors)
    assert all(torch.equal(tensor, old) for tensor, old in zip(tensors, before, strict=True))


def test_no_two_families_define_the_same_op() -> None:
    counted = Counter(key for family in FAMILIES for key in family)
    assert not [key for key, times in counted.items() if times > 1]


@pytest.mark.parametrize("key", OPS, ids=lambda key: "::".join(key))
def test_a_signature_tells_inputs_from_attributes(key: tuple[str, str]) -> None:
    op = OPS[key]
    assert op.function.__doc__
    positional = [p for p in inspect.signature(op.function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    if not any(p.kind is p.VAR_POSITIONAL for p in positional):
        assert all(position < len(positional) for position in op.static)
