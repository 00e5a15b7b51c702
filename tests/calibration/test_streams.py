"""Values come back as they were put, from memory and from the file; cutting batches changes nothing but the memory."""

import numpy as np
import pytest
import torch

from edgeq.calibration import batch as batching
from edgeq.calibration.moments import moments
from edgeq.calibration.ranges import observe
from edgeq.calibration.streams import Streams, decode, encode
from edgeq.calibration.walk import Walk
from edgeq.graph.execute import to_torch
from edgeq.plan.quantization import affine_from_range
from edgeq.simulate.fake_quantize import fake_quantize

from .networks import convolutions, images, skeleton


@pytest.mark.parametrize("bits", [4, 8, 16])
def test_codes_are_those_of_the_simulation(bits: int) -> None:
    grid = affine_from_range(-1.3, 2.9, bits, symmetric=bits == 16)
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 2
    scale, zero = torch.tensor(float(grid.scale)), torch.tensor(float(grid.zero_point))
    assert torch.equal(decode(encode(x, grid), grid), fake_quantize(x, scale, zero, grid.qmin, grid.qmax))


def test_what_exceeds_the_budget_is_read_back_from_the_file() -> None:
    grid = affine_from_range(-1.0, 1.0, 8)
    bounded, free = Streams(budget=3000), Streams()
    g = torch.Generator().manual_seed(0)
    for streams in (bounded, free):
        g.manual_seed(0)
        for _ in range(5):
            streams.append("real", torch.randn(4, 100, generator=g))
            streams.append("codes", torch.randn(4, 100, generator=g), grid)
        streams.append("ids", torch.arange(7))
    for value in ("real", "codes", "ids"):
        for a, b in zip(bounded.batches(value), free.batches(value), strict=True):
            assert torch.equal(a, b)
            assert a.dtype == b.dtype
    bounded.drop("real")
    assert "real" not in bounded
    assert len(bounded) == 2


def test_a_view_does_not_keep_its_whole_alive() -> None:
    streams = Streams()
    streams.append("part", torch.zeros(1000, 1000)[:1])
    assert streams.get("part", 0).untyped_storage().nbytes() == 4000


def test_small_batches_and_the_file_give_the_same_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = convolutions(), torch.from_numpy(images(24))
    made = skeleton(graph)
    found = []
    for largest, budget in ((1 << 24, 1 << 28), (1 << 12, 5000)):
        monkeypatch.setattr(batching, "LARGEST_TENSOR", largest)
        ranges = observe(to_torch(graph), [(x,)], made)
        activations = {v: affine_from_range(*ranges[group], 8) for v, group in made.groups.items()}
        walk = Walk(graph, made, activations, real=Streams(budget), quantized=Streams(budget)).start([(x,)])
        for unit in walk.units():
            if unit.name == "pointwise":
                found.append((walk.batches, moments(walk, unit)))
            walk.advance(unit)
    (few, whole), (many, cut) = found
    assert few == 1
    assert many > 5
    # Convolutions of other batch sizes sum in another order: a code may move by a step here and there.
    np.testing.assert_allclose(cut.qq, whole.qq, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(cut.fq, whole.fq, rtol=1e-3, atol=1e-4)
