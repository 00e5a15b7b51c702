"""Observers: constant memory, independence of the batching, and each one's own optimum by brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgeq.calibration.observers import BY_NAME, Entropy, Histogram, MinMax, Mse, Percentile
from edgeq.calibration.observers.histogram import BINS
from edgeq.errors import DataError
from edgeq.plan.quantization import affine_from_range

NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)


def seen(observer: str, *tensors: torch.Tensor) -> tuple[float, float]:
    made = BY_NAME[observer]()
    for tensor in tensors:
        made.update(tensor)
    return made.range(8)


@pytest.mark.parametrize("observer", BY_NAME)
@given(numbers=NUMBERS)
def test_every_range_is_finite_ordered_and_within_what_was_seen(observer: str, numbers: list[float]) -> None:
    low, high = seen(observer, torch.tensor(numbers))
    assert np.isfinite([low, high]).all()
    assert min(0.0, *numbers) <= low <= high <= max(0.0, *numbers)
    affine_from_range(low, high, 8)


@pytest.mark.parametrize("observer", BY_NAME)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(observer: str, bad: float) -> None:
    with pytest.raises(DataError, match="NaN or infinity"):
        seen(observer, torch.tensor([0.0, bad]))


@pytest.mark.parametrize("observer", BY_NAME)
def test_nothing_seen_is_an_error(observer: str) -> None:
    with pytest.raises(DataError, match="no numbers"):
        seen(observer, torch.zeros(0))


@pytest.mark.parametrize("observer", BY_NAME)
def test_the_range_does_not_depend_on_how_the_stream_is_cut(observer: str) -> None:
    # Increasing magnitudes make the histogram grow many times when it is fed piece by piece.
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 4000)
    whole = seen(observer, x)
    assert seen(observer, *x.split(7)) == whole
    # Backwards, the histogram is wide from the start.
    assert seen(observer, *x.flip(0).split(501)) == whole


def test_the_histogram_counts_everything_once() -> None:
    histogram = Histogram()
    x = torch.cat([torch.linspace(-1, 1, 1001), torch.linspace(-300, 77, 1001)])
    for part in x.split(100):
        histogram.update(part)
    assert int(histogram.counts.sum()) == len(x)
    assert histogram.reach == 512.0
    centres, counts = histogram.occupied()
    expected, _ = np.histogram(x.numpy(), BINS, (-512, 512))
    assert len(counts) == np.count_nonzero(expected)
    # A number within one float32 rounding of a bin's edge may fall on either side of it.
    assert np.abs(np.cumsum(counts.numpy()) - np.cumsum(expected[expected > 0])).max() <= 1
    assert float((centres[0] - -300).abs()) <= histogram.width / 2


def test_min_max_is_exact() -> None:
    assert seen("min-max", torch.tensor([1.0, -2.5]), torch.tensor([[7.25]])) == (-2.5, 7.25)


def test_percentile_leaves_out_the_asked_share() -> None:
    x = torch.cat([torch.linspace(-1, 1, 100_001), torch.tensor([-1000.0, 1000.0])])
    observer = Percentile(0.999)
    observer.update(x)
    low, high = observer.range(8)
    # The bins are 1024 * 2 / 8192 wide.
    assert 0.99 <= high <= 1.0 + 0.25
    assert -1.0 - 0.25 <= low <= -0.99


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", ["normal", "relu", "heavy"])
def test_mse_is_near_the_brute_force_optimum(bits: int, symmetric: bool, shape: str) -> None:
    x = torch.randn(20_000, generator=torch.Generator().manual_seed(1))
    x = {"normal": x + 0.5, "relu": x.relu(), "heavy": x**3}[shape]
    observer = Mse()
    observer.update(x)

    def loss(low: float, high: float) -> float:
        grid = affine_from_range(low, high, bits, symmetric=symmetric)
        return float(((grid.dequantize(grid.quantize(x.numpy())) - x.numpy()) ** 2).mean())

    found = loss(*observer.range(bits, symmetric=symmetric))
    low, high = float(x.min()), float(x.max())
    factors = np.linspace(0.02, 1.0, 50)
    best = min(loss(low * a, high * b) for a in factors for b in ([a] if symmetric else factors))
    # The histogram's bins and the two searches' steps leave a few per cent.
    assert found <= best * 1.05
    assert found <= loss(low, high) * 1.0001


def test_entropy_cuts_a_far_outlier_and_keeps_a_uniform() -> None:
    normal = torch.randn(100_000, generator=torch.Generator().manual_seed(2))
    observer = Entropy()
    observer.update(torch.cat([normal, torch.tensor([50.0])]))
    assert 2.0 < observer.range(8)[1] < 10.0
    uniform = Entropy()
    uniform.update(torch.linspace(-1, 1, 100_000))
    low, high = uniform.range(8)
    assert low < -0.9
    assert high > 0.9


def test_a_constant_zero_is_a_range() -> None:
    for observer in BY_NAME:
        assert seen(observer, torch.zeros(10)) == (0.0, 0.0)


def test_bins_are_few_whatever_is_seen() -> None:
    observer = Mse()
    for exponent in range(-30, 30):
        observer.update(torch.full((3,), 2.0**exponent))
    assert observer.counts.shape == (BINS,)
    assert isinstance(observer.extremes, MinMax)
