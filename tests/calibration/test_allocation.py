"""Bit allocation: optimal by brute force, within the budget, and better than uniform bits on a real skeleton."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.calibration.allocation import Sensitivity, allocate, sensitivity
from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.methods import method
from edgeq.calibration.ranges import observe
from edgeq.errors import PlanError
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.plan.bits import Bits
from edgeq.plan.rules import Request, decide
from edgeq.plan.validate import validate

from .networks import convolutions, images, skeleton

LAYERS = st.lists(
    st.tuples(st.integers(1, 1000), st.lists(st.floats(0, 10), min_size=3, max_size=3)), min_size=1, max_size=5
)


@given(layers=LAYERS, share=st.floats(0.3, 1.0))
@settings(max_examples=50, deadline=None)
def test_the_choice_is_the_optimum(layers: list[tuple[int, list[float]]], share: float) -> None:
    widths = (2, 4, 8)
    damage = {f"l{i}": dict(zip(widths, sorted(d, reverse=True), strict=True)) for i, (_, d) in enumerate(layers)}
    measured = Sensitivity(damage, {f"l{i}": size for i, (size, _) in enumerate(layers)})
    budget = share * sum(measured.weights.values())

    def size(bits: dict[str, int]) -> float:
        return sum(measured.weights[unit] * b / 8 for unit, b in bits.items())

    def total(bits: dict[str, int]) -> float:
        return sum(damage[unit][b] for unit, b in bits.items())

    found = allocate(measured, budget)
    assert set(found) == set(damage)
    assert size(found) <= budget * (1 + 1e-9)
    every = (dict(zip(damage, bits, strict=True)) for bits in itertools.product(widths, repeat=len(damage)))
    best = min(total(bits) for bits in every if size(bits) <= budget)
    assert total(found) <= best + 1e-6


def test_an_impossible_budget_is_refused_with_what_is_needed() -> None:
    measured = Sensitivity({"a": {2: 1.0, 8: 0.0}}, {"a": 800})
    with pytest.raises(PlanError, match="at least 200 bytes at the fewest bits; the budget is 100"):
        allocate(measured, 100)


def measured_on(
    graph: Graph, samples: list[tuple[torch.Tensor, ...]], held_out: list[tuple[torch.Tensor, ...]], average: int
) -> tuple[Sensitivity, dict[str, int], float, float]:
    """(sensitivity, allocated bits, divergence of the allocated plan, of uniform bits of the same size)."""
    chosen = skeleton(graph, f"w{average}a8")
    ranges = observe(to_torch(graph), samples, chosen)
    measured = sensitivity(graph, chosen, ranges, samples, held_out, widths=(2, 3, 4, 6, 8))
    total = sum(measured.weights.values())
    bits = allocate(measured, total * average / 8)
    overrides = tuple((unit, Bits(width, 8)) for unit, width in bits.items())
    mixed = method("gptq")(graph, decide(graph, Request(Bits(8, 8), overrides)), ranges, samples)
    uniform = method("gptq")(graph, skeleton(graph, f"w{average}a8"), ranges, samples)
    validate(graph, mixed)
    assert sum(c.codes.size * c.quantization.bits for c in mixed.weights.values()) <= total * average
    reference = float_outputs(graph, held_out)
    found = (divergence(graph, plan, held_out, reference) for plan in (mixed, uniform))
    return measured, bits, *found


def test_every_layer_is_measured_and_the_budget_is_kept() -> None:
    graph = convolutions()
    samples = [(part,) for part in torch.from_numpy(images(256)).split(64)]
    held_out = [(torch.from_numpy(images(128, seed=5)),)]
    measured, bits, _, _ = measured_on(graph, samples, held_out, 3)
    assert set(measured.damage) == set(bits) == {unit.name for unit in skeleton(graph).units if unit.weight is not None}
    for by_bits in measured.damage.values():
        assert list(by_bits) == [8, 6, 4, 3, 2]
        assert list(by_bits.values()) == sorted(by_bits.values())
    assert sum(measured.damage[u][b] for u, b in bits.items()) <= sum(d[3] for d in measured.damage.values()) + 1e-9
