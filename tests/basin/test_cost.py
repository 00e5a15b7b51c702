"""The cost that is told before a diagnosis starts: as many passes as are then made, at the model's own speed."""

from dataclasses import replace

import pytest
import torch

from edgeq.basin.cost import GRADIENT, Cost, Options, price
from edgeq.basin.diagnose import diagnose
from edgeq.basin.divergence import refer
from edgeq.basin.landscape import Inputs, Point, Run
from edgeq.basin.simulated import landscape_of

from . import demo

SAMPLES = 64


class _Counted:
    """Counts samples that are run, those with gradients as often as they cost."""

    def __init__(self, run: Run) -> None:
        self.run, self.passes = run, 0.0

    def __call__(self, point: Point, inputs: Inputs, blend: float) -> tuple[torch.Tensor, ...]:
        self.passes += len(inputs[0]) * (GRADIENT if torch.is_grad_enabled() else 1.0)
        return self.run(point, inputs, blend)


@pytest.mark.parametrize(("bits", "healthy"), [("w8a8", True), ("w2a8", False), ("w2", False)])
def test_as_many_passes_are_promised_as_are_made(bits: str, healthy: bool) -> None:
    landscape, _ = landscape_of(demo.graph(), demo.plan(bits))
    count = _Counted(landscape.run)
    told: list[Cost] = []

    def announce(cost: Cost) -> None:
        told.append(cost)
        count.passes = 0.0  # what the promise itself took is not part of it

    found = diagnose(
        replace(landscape, run=count),
        demo.batches("evaluation", 0, SAMPLES),
        training=demo.batches("train", 0, SAMPLES),
        options=Options(blame_samples=32, width_samples=16),
        announce=announce,
    )
    assert (found.verdict.name == "inside") == healthy
    promised = told[0].passes * (told[0].healthy_seconds / told[0].seconds if healthy else 1.0)
    # At most, since a width may be found early; not far less, or the promise would frighten.
    assert 0.7 * promised <= count.passes <= 1.02 * promised


def test_progress_ends_near_its_end() -> None:
    landscape, _ = landscape_of(demo.graph(), demo.plan("w8a8"))
    said: list[float] = []
    diagnose(
        landscape,
        demo.batches("evaluation", 0, SAMPLES),
        training=demo.batches("train", 0, SAMPLES),
        repair=lambda candidate: candidate,
        progress=lambda what, done, total: said.append(done / total),
    )
    assert said == sorted(said)
    # Repair and trials were not needed, and no longer count.
    assert 0.8 < said[-1] <= 1


@pytest.mark.parametrize("slow", [(0,), (0, 1), (2, 3, 4)])
def test_a_slow_start_or_another_process_does_not_multiply_the_promise(
    slow: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first runs pay for what is set up once, and later ones may be held up; the clock is the test's own."""
    landscape, _ = landscape_of(demo.graph(), demo.plan("w8a8"))
    reference = refer(landscape, demo.batches("evaluation", 0, SAMPLES))
    calls, now = 0, 100.0

    def held_up(point: Point, inputs: Inputs, blend: float) -> tuple[torch.Tensor, ...]:
        nonlocal calls, now
        now += 0.15 if calls in slow else 0.005
        calls += 1
        return reference.outputs[0]

    monkeypatch.setattr("edgeq.basin.cost.time.perf_counter", lambda: now)
    cost = price(replace(landscape, run=held_up), reference, (), Options(), repairs=False, rounds=False)
    assert cost.seconds / cost.passes == pytest.approx(0.005 / len(reference.outputs[0][0]))
