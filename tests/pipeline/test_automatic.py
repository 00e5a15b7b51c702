"""The search of --method auto: it starts cheap, follows the loss, says why it stops, and keeps the best."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from edgeq.calibration.divergence import Distance
from edgeq.calibration.ranges import Ranges
from edgeq.pipeline.automatic import Candidate, Story, Workshop, search

RANGES = Ranges({}, {}, 1, "MinMax")
OTHER = replace(RANGES, observer="Mse")
NOTHING_LEFT = "no method is left but --method brecq, which takes minutes and is seldom nearer"


@dataclass(eq=False)
class _Plan:
    method: str
    observer: str
    graph: str
    activations: Mapping[str, Any]
    biases: Mapping[str, Any] = field(default_factory=lambda: {"layer": None})


def found(
    losses: Mapping[str, float],
    activations: float,
    *,
    equalized: bool = False,
    equalized_activations: float | None = None,
    absorbed: bool = False,
    bits: int = 8,
    soft: Mapping[str, float] | None = None,
    noise: float = 0.0,
) -> tuple[Candidate, Story]:
    """Search with given losses by method, or by method and what it builds on (``gptq/Mse``, ``gptq/equalized``)."""

    def distance(candidate: Candidate, weights: bool) -> Distance:
        made: Any = candidate.plan
        if weights:
            at = listed(made, losses)
            return Distance(at, spread(at if soft is None else listed(made, soft), made.method))
        if made.graph == "equalized" and equalized_activations is not None:
            return Distance(equalized_activations, (equalized_activations,))
        alone = activations / 2 if made.observer == "Mse" else activations
        return Distance(alone, (alone,))

    def spread(mean: float, method: str) -> tuple[float, ...]:
        """Samples of which some are far better by second-order rounding and others far worse, where that is asked."""
        away = noise * mean if method.startswith("gptq") else 0.0
        return (mean - away, mean + away)

    def listed(made: Any, losses: Mapping[str, float]) -> float:
        for key in (f"{made.method}/{made.graph}", f"{made.method}/{made.observer}", made.method):
            if key in losses:
                return losses[key]
        raise AssertionError(f"{made} should not have been tried")

    def plan(name: str, graph: Any, ranges: Ranges) -> Any:
        return _Plan(name, ranges.observer, graph, {"x": SimpleNamespace(bits=bits)})

    def even(graph: Any, ranges: Ranges) -> Any:
        return ("equalized", ranges) if equalized else None

    def moved(graph: Any, ranges: Ranges) -> Any:
        return (f"{graph}, absorbed", ranges) if absorbed else None

    graph: Any = "float"
    return search(Workshop(plan, distance, lambda: OTHER, even, moved), graph, RANGES)


def kept(story: Story) -> list[str]:
    return [trial.method for trial in story.trials if trial.kept]


def test_a_healthy_model_gets_the_cheapest() -> None:
    _, story = found({"nearest": 0.001}, 0.0)
    assert kept(story) == ["nearest"]
    assert (len(story.trials), story.reason) == (1, "as good as float")


def test_it_goes_on_while_it_is_worth_it() -> None:
    losses = {"nearest": 1.9, "bias": 0.5, "statistics": 0.6, "gptq": 0.04, "gptq+variance": 0.0399}
    best, story = found(losses, 0.001)
    assert kept(story) == ["gptq+variance"], "it has been paid for"
    assert best.plan.method == "gptq+variance"
    assert [trial.method for trial in story.trials] == list(losses)
    assert story.reason == NOTHING_LEFT


def test_it_ends_where_only_the_activations_cost() -> None:
    best, story = found({"nearest": 0.1, "bias": 0.011, "nearest/Mse": 0.1}, 0.01)
    assert best.plan.method == "bias"
    assert [trial.method for trial in story.trials][-1] == "bias"
    assert story.activations == 0.01
    assert "activations" in story.reason
    assert "activations alone 0.01" in str(story)


def test_where_much_is_left_second_order_rounding_may_give_back_what_the_activations_cost() -> None:
    # Of the voice detector at w3a8, whose state carries what every step shifts.
    losses = {
        "nearest": 1.3,
        "nearest/Mse": 1.3,
        "bias": 0.176,
        "statistics": 0.076,
        "gptq": 0.01,
        "gptq+variance": 0.008,
    }
    _, story = found(losses, 0.167)
    assert kept(story) == ["gptq+variance"]


def test_it_goes_on_where_a_method_gave_back_what_the_activations_cost() -> None:
    # Of the voice detector at w3a8: the activations shift what the layers after them see, and other methods take that
    # up. Just below what they cost alone second-order rounding is worth its time.
    losses = {"nearest": 1.0, "nearest/Mse": 1.0, "bias": 0.095, "statistics": 0.092, "gptq": 0.09}
    _, story = found(losses | {"gptq+variance": 0.05}, 0.1)
    assert kept(story) == ["gptq+variance"]
    assert story.reason == NOTHING_LEFT


def test_second_order_rounding_is_kept_unless_samples_show_that_it_is_farther() -> None:
    # Of ResNet-56 at w4a4: statistics lead on a hundred samples, and lose on a thousand.
    losses = {"nearest": 2.0, "nearest/Mse": 2.0, "bias": 1.5, "statistics": 0.94, "gptq": 1.03, "gptq+variance": 1.05}
    _, story = found(losses, 0.1, bits=4, noise=0.5)
    assert kept(story) == ["gptq"]
    assert story.reason.endswith("; gptq is kept before statistics, whose lead is within chance")
    _, story = found(losses | {"gptq+variance": 0.93}, 0.1, bits=4, noise=0.5)
    assert kept(story) == ["gptq+variance"]
    assert "chance" not in story.reason, "it is the nearest of all"
    _, story = found(losses, 0.1, bits=4, noise=0.001)
    assert kept(story) == ["statistics"]
    assert "chance" not in story.reason


def test_coarse_activations_do_not_end_it_since_methods_give_their_shift_back() -> None:
    losses = {"nearest": 1.0, "nearest/Mse": 1.0, "bias": 0.9, "statistics": 0.9, "gptq": 0.5, "gptq+variance": 0.49}
    _, story = found(losses, 0.95, bits=4)
    assert kept(story) == ["gptq+variance"]
    assert story.reason == NOTHING_LEFT


def test_variances_are_tried_even_where_second_order_rounding_alone_brings_little() -> None:
    losses = {"nearest": 1.0, "bias": 0.3, "statistics": 0.3, "gptq": 0.3, "gptq+variance": 0.1}
    _, story = found(losses, 0.001)
    assert kept(story) == ["gptq+variance"]


def test_the_softened_divergence_chooses_and_the_plain_one_ends_the_search() -> None:
    # Of ResNet-56 at w4a4: a few samples hold the mean divergence of the better plan above the other's.
    losses = {"nearest": 0.18, "bias": 0.19, "statistics": 0.2, "gptq": 0.23, "gptq+variance": 0.004}
    soft = {"nearest": 1.9, "bias": 1.8, "statistics": 1.5, "gptq": 1.2, "gptq+variance": 1.1}
    _, story = found(losses, 0.0, soft=soft)
    assert kept(story) == ["gptq+variance"]
    assert story.reason == "as good as float"
    assert "gptq 0.23 (1.2), gptq+variance 0.004 (1.1); in parentheses softened by temperature 4, which chose" in str(
        story
    )
    _, story = found(losses | {"gptq+variance": 0.3}, 0.0, soft=soft | {"gptq+variance": 1.3})
    assert kept(story) == ["gptq"]


def test_ranges_are_chosen_anew_where_the_activations_cost_most() -> None:
    losses = {"nearest": 0.04, "nearest/Mse": 0.02, "bias/Mse": 0.0168}
    best, story = found(losses, 0.032)
    assert best.ranges is OTHER
    assert kept(story) == ["bias on Mse ranges"]
    assert story.activations == 0.016


@pytest.mark.parametrize("loss", [0.2, 0.99])
def test_equalization_is_kept_only_where_it_helps(loss: float) -> None:
    losses = {"nearest": 1.0, "nearest/equalized": loss, "bias": 0.004}
    best, story = found(losses, 0.0, equalized=True)
    graph: Any = best.graph
    assert graph == ("equalized" if loss < 0.9 else "float")
    assert kept(story) == ["bias after equalization" if loss < 0.9 else "bias"]


@pytest.mark.parametrize(("after", "graph"), [(0.25, "equalized"), (0.35, "float")])
def test_equalization_that_makes_coarse_activations_worse_is_not_kept(after: float, graph: str) -> None:
    # Nearest gains by it either way; what the activations lose, better rounding of the weights does not bring back.
    losses = {"nearest/equalized": 0.4, "nearest/Mse": 0.9, "nearest": 0.5, "bias": 0.3, "statistics": 0.3}
    losses |= {"gptq": 0.2, "gptq+variance": 0.1}
    best, story = found(losses, 0.3, equalized=True, equalized_activations=after, bits=4)
    assert (best.graph, best.plan.method) == (graph, "gptq+variance")
    tried = next(trial for trial in story.trials if trial.method == "equalization")
    assert (tried.loss, tried.kept) == (0.4, False)


@pytest.mark.parametrize(("loss", "graph"), [(0.2, "float, absorbed"), (0.99, "float"), (1.5, "float")])
def test_absorption_is_kept_only_where_it_helps(loss: float, graph: str) -> None:
    losses = {"nearest": 1.0, "nearest/float, absorbed": loss, "bias": 0.004}
    best, story = found(losses, 0.0, absorbed=True)
    assert (best.graph, best.plan.method) == (graph, "bias")
    assert kept(story) == ["bias" if graph == "float" else "bias after absorption"]


@pytest.mark.parametrize("loss", [0.2, 0.9])
def test_what_equalization_leaves_is_absorbed(loss: float) -> None:
    base = "equalized, absorbed" if loss < 0.5 else "float, absorbed"
    losses = {"nearest": 0.5, "nearest/equalized": loss, f"nearest/{base}": 0.1, f"bias/{base}": 0.004}
    best, story = found(losses, 0.0, equalized=True, absorbed=True)
    assert (best.graph, best.plan.method) == (base, "bias")
    after = "absorption after equalization" if loss < 0.5 else "absorption"
    assert [trial.method for trial in story.trials] == ["nearest", "equalization", after, f"bias after {after}"]


def test_nothing_is_absorbed_where_equalization_was_enough() -> None:
    best, _ = found({"nearest": 0.5, "nearest/equalized": 0.004}, 0.0, equalized=True, absorbed=True)
    assert (best.graph, best.plan.method) == ("equalized", "nearest")
