"""The written-out gradients against autograd on the defining formula."""

import pytest
import torch

from edgeq.simulate.fake_quantize import fake_quantize, round_ste


def by_autograd(x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, qmin: int, qmax: int) -> torch.Tensor:
    return (torch.clamp(round_ste(x / scale) + zero_point, qmin, qmax) - zero_point) * scale


@pytest.mark.parametrize(("qmin", "qmax"), [(-128, 127), (-8, 7), (-1, 1)])
@pytest.mark.parametrize("channels", [True, False])
def test_values_and_gradients_are_those_of_the_formula(qmin: int, qmax: int, channels: bool) -> None:
    torch.manual_seed(0)
    shape = (6, 1, 1, 1) if channels else ()
    zero_point = torch.zeros(shape) if channels else torch.tensor(float(qmin))
    start = torch.rand(shape) * 0.05 + 0.01
    given, upstream = torch.randn(6, 5, 4, 4), torch.randn(6, 5, 4, 4)
    results = []
    for function in (by_autograd, fake_quantize):
        x, scale = given.clone().requires_grad_(), start.clone().requires_grad_()
        y = function(x, scale, zero_point, qmin, qmax)
        y.backward(upstream)
        assert x.grad is not None
        assert scale.grad is not None
        results.append((y.detach(), x.grad, scale.grad))
    (y0, x0, s0), (y1, x1, s1) = results
    assert torch.equal(y0, y1)
    assert torch.allclose(x0, x1, rtol=1e-6, atol=0)  # (g * scale) / scale against g
    assert torch.allclose(s0, s1, rtol=1e-3, atol=1e-3 * float(s0.abs().max()))  # float32 sums in another order
    assert 0 < int((x1 == 0).sum()) < x1.numel()


def test_no_gradient_is_computed_that_nobody_wants() -> None:
    x = torch.randn(4, requires_grad=True)
    fake_quantize(x, torch.tensor(0.1), torch.tensor(0.0), -8, 7).sum().backward()
    assert x.grad is not None
