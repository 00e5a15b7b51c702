"""Auto spends no more than is worth it, and never ends with a worse plan than it has seen."""

import torch

from edgeq.calibration.auto import LADDER, Choice, choose_method
from edgeq.calibration.divergence import divergence, float_outputs
from edgeq.calibration.ranges import observe
from edgeq.graph.execute import to_torch

from .networks import convolutions, images, skeleton

GRAPH = convolutions()
SAMPLES = [(part,) for part in torch.from_numpy(images(192)).split(32)]
HELD_OUT = [(torch.from_numpy(images(64, seed=9)),)]


def chosen(bits: str, close: float) -> Choice:
    made = skeleton(GRAPH, bits)
    return choose_method(GRAPH, made, observe(to_torch(GRAPH), SAMPLES, made), SAMPLES, HELD_OUT, close=close)


def test_a_healthy_model_costs_one_cheap_step() -> None:
    choice = chosen("w8a8", close=0.002)
    assert [name for name, _ in choice.tried] == ["nearest"]
    assert choice.plan.method == "nearest"
    assert choice.reason == "nearest is within 0.002 of the float model"


def test_a_hard_case_climbs_and_keeps_the_best() -> None:
    choice = chosen("w2a8", close=0.0)
    assert len(choice.tried) > 2
    least = min(value for _, value in choice.tried)
    assert divergence(GRAPH, choice.plan, HELD_OUT, float_outputs(GRAPH, HELD_OUT)) == least
    assert choice.plan.method == next(name for name, value in choice.tried if value == least)
    assert choice.plan.method != "nearest"
    assert "two methods" in choice.reason or choice.reason == "every method was tried"


def test_the_ladder_starts_with_the_cheapest() -> None:
    assert LADDER[0].rounding is None
