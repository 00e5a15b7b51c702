"""GPTQ and coordinate descent against exhaustive search of the rounding, and the layer's measure against autograd."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.calibration.adaround import adaround, learn
from edgeq.calibration.descent import best_scale, descend, gptq_descent
from edgeq.calibration.gptq import gptq, round_columns
from edgeq.calibration.layer import Layer, layer
from edgeq.calibration.moments import Moments


def problem(
    seed: int, groups: int = 1, outputs: int = 2, depth: int = 5, qmax: int = 1, per_channel: bool = True
) -> Layer:
    """A layer with correlated inputs, and quantized inputs that differ from the float ones."""
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(groups, depth, depth, generator=g, dtype=torch.float64)
    x = mix @ torch.randn(groups, depth, 400, generator=g, dtype=torch.float64)
    q = x + 0.1 * torch.randn(x.shape, generator=g, dtype=torch.float64)
    weight = torch.randn(groups, outputs, depth, generator=g, dtype=torch.float64)
    return layer(weight, moments_of(x, q), qmax, per_channel)


def moments_of(x: torch.Tensor, q: torch.Tensor) -> Moments:
    a, b = (side - side.mean(2, keepdim=True) for side in (x, q))
    n = x.shape[2]
    return Moments(b @ b.mT / n, a @ b.mT / n)


def exhaustive(layer_: Layer, scale: torch.Tensor) -> torch.Tensor:
    """The least L of any codes on those scales, (groups, outputs)."""
    grid = range(-layer_.qmax, layer_.qmax + 1)
    every = torch.tensor(list(itertools.product(grid, repeat=layer_.weight.shape[2])), dtype=torch.float64)
    found = torch.empty(scale.shape, dtype=torch.float64)
    for group, output in itertools.product(*map(range, scale.shape)):
        error = layer_.target[group, output] - every * scale[group, output]
        found[group, output] = ((error @ layer_.hessian[group]) * error).sum(1).min()
    return found


def test_the_hessian_is_that_of_autograd() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 50, generator=g, dtype=torch.float64)
    weight = torch.randn(1, 3, 4, generator=g, dtype=torch.float64)
    made = layer(weight, moments_of(x, x), 7, True, damping=0.0)

    def error(flat: torch.Tensor) -> torch.Tensor:
        output = (weight - flat.reshape(1, 3, 4)) @ (x - x.mean(2, keepdim=True))
        return output.pow(2).sum(1).mean()

    hessian = torch.autograd.functional.hessian(error, weight.reshape(-1))
    expected = 2 * torch.block_diag(*[made.hessian[0]] * 3)
    # Both are sums of 50 products in float64.
    torch.testing.assert_close(hessian, expected, rtol=1e-9, atol=1e-9)
    rows = weight + 0.1
    torch.testing.assert_close(made.loss(rows).sum(), error(rows.reshape(-1)), rtol=1e-9, atol=1e-12)


def test_the_target_is_the_least_squares_solution() -> None:
    g = torch.Generator().manual_seed(3)
    x = torch.randn(1, 4, 500, generator=g, dtype=torch.float64)
    q = 0.8 * x + 0.2 * torch.randn(1, 4, 500, generator=g, dtype=torch.float64)
    weight = torch.randn(1, 2, 4, generator=g, dtype=torch.float64)
    made = layer(weight, moments_of(x, q), 7, True, damping=0.0)
    ones = torch.ones(500, 1, dtype=torch.float64)
    solution = torch.linalg.lstsq(torch.cat([q[0].T, ones], 1), (weight @ x)[0].T).solution[:4].T
    torch.testing.assert_close(made.target[0], solution, rtol=1e-8, atol=1e-10)


@given(seed=st.integers(0, 10_000), qmax=st.sampled_from([1, 3]), groups=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_every_method_is_between_the_optimum_and_nearest(seed: int, qmax: int, groups: int) -> None:
    made = problem(seed, groups, depth=4, qmax=qmax)
    base = made.min_max_scale()
    nearest = made.loss(made.nearest(base) * base[:, :, None])
    for method in (gptq, lambda p: gptq(p, act_order=True), gptq_descent):
        codes, scale = method(made)
        assert codes.abs().max() <= qmax
        assert torch.equal(codes, codes.round())
        found = made.loss(codes * scale[:, :, None])
        assert (found <= nearest * (1 + 1e-9)).all()
        assert (found >= exhaustive(made, scale) * (1 - 1e-9)).all()


def test_descent_comes_close_to_the_optimum() -> None:
    ratios = []
    for seed in range(40):
        made = problem(seed, depth=6, qmax=1)
        codes, scale = gptq_descent(made)
        ratios.append(float((made.loss(codes * scale[:, :, None]) / exhaustive(made, scale)).max()))
    # Measured on these seeds: most are the optimum itself.
    assert np.median(ratios) < 1.0001
    assert np.mean(np.array(ratios) < 1.5) > 0.8


@given(seed=st.integers(0, 10_000), per_channel=st.booleans())
@settings(max_examples=30, deadline=None)
def test_descent_never_raises_the_loss(seed: int, per_channel: bool) -> None:
    made = problem(seed, groups=2, outputs=3, depth=7, qmax=3, per_channel=per_channel)
    scale = made.min_max_scale()
    codes = made.nearest(scale)
    loss = float(made.loss(codes * scale[:, :, None]).sum())
    for _ in range(4):
        codes, scale = descend(made, codes, scale, sweeps=1)
        now = float(made.loss(codes * scale[:, :, None]).sum())
        assert now <= loss * (1 + 1e-9)
        loss = now
    if not per_channel:
        assert float(scale.max() - scale.min()) == 0.0


def test_adaround_comes_close_to_the_optimum_and_is_deterministic() -> None:
    ratios = []
    for seed in range(12):
        made = problem(seed, depth=5, qmax=3)
        codes, scale = adaround(made, steps=200)
        again, _ = adaround(made, steps=200)
        assert torch.equal(codes, again)
        ratios.append(float((made.loss(codes * scale[:, :, None]) / exhaustive(made, scale)).max()))
    assert np.median(ratios) < 1.05


def test_learning_alone_beats_nearest() -> None:
    gains = []
    for seed in range(8):
        made = problem(seed, outputs=8, depth=12, qmax=3)
        scale = made.min_max_scale()
        nearest = torch.clamp(torch.round(made.target / scale[:, :, None]), -3, 3)
        learned = learn(made, nearest, scale)
        # Each code is the target's neighbour, below or above.
        assert (learned - nearest).abs().max() <= 1
        gains.append(float(made.loss(learned * scale[:, :, None]).sum() / made.loss(nearest * scale[:, :, None]).sum()))
    assert np.mean(gains) < 0.9


def test_the_best_scale_is_least_squares() -> None:
    made = problem(5, qmax=3)
    codes = made.nearest(made.min_max_scale() * 0.7)
    scale = best_scale(made, codes, made.min_max_scale())
    least = made.loss(codes * scale[:, :, None])
    for factor in (0.99, 1.01):
        assert (made.loss(codes * scale[:, :, None] * factor) >= least).all()


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    made = problem(1, groups=2, outputs=4, depth=20, qmax=7)
    scale = made.min_max_scale()
    whole = round_columns(made, scale[None])[0]
    monkeypatch.setattr("edgeq.calibration.gptq.BLOCK", 3)
    assert torch.equal(round_columns(made, scale[None])[0], whole)


def test_act_order_takes_each_group_in_its_own_order() -> None:
    # A depthwise convolution: many groups, each of them rounded as if it were alone.
    made = problem(2, groups=6, outputs=1, depth=9, qmax=3)
    scale = made.min_max_scale()
    together = round_columns(made, scale[None], act_order=True)[0]
    for group in range(6):
        alone = Layer(
            made.weight[group : group + 1], made.target[group : group + 1], made.hessian[group : group + 1], 3, True
        )
        assert torch.equal(round_columns(alone, scale[None, group : group + 1], act_order=True)[0, 0], together[group])


def test_without_correlation_gptq_is_nearest() -> None:
    weight = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = Layer(weight, weight, torch.eye(6, dtype=torch.float64)[None], 7, True)
    scale = made.min_max_scale()
    assert torch.equal(round_columns(made, scale[None])[0], made.nearest(scale))
