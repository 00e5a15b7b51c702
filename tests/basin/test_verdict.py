"""The rules, one by one: each verdict with the facts that lead to it, and with the one fact changed that undoes it."""

from dataclasses import replace

import pytest

from edgeq.basin.remedy import remedy
from edgeq.basin.verdict import VERDICTS, Facts, Thresholds, Trials, Verdict, decide, is_inside, met_wall

RULES = Thresholds(inside=0.02, inside_changed=0.05, wall=2.4, bowl_ratio=1.5, chance=0.7, rounded=0.05,
                   rounded_share=0.02, trained=0.1, fall=0.4, lost=1.7)  # fmt: skip
BOWL = Facts(D=0.3, A=0.1, A_upper=0.13, R=1.0, steepest=2.1, inward=0.6, chance=2.3)
WALL = replace(BOWL, D=1.2, A=0.3, A_upper=0.35, R=3.0, steepest=3.2)
GOOD = replace(BOWL, D=0.004, A=0.01, A_upper=0.03)
NOTHING = Trials()


def _decide(raw: Facts, repaired: Facts | None = None, trials: Trials = NOTHING, bits: int = 4) -> Verdict:
    return decide(raw, repaired, trials, task="classes", least_bits=bits, thresholds=RULES)


def test_inside_by_the_bound_or_by_the_altitude() -> None:
    assert _decide(GOOD).name == "inside"
    assert is_inside(replace(WALL, A=0.0, A_upper=0.009), "classes", RULES)
    assert not is_inside(replace(GOOD, D=0.021), "classes", RULES)
    assert not is_inside(replace(GOOD, A=0.06), "classes", RULES)
    assert not is_inside(replace(GOOD, D=float("nan")), "classes", RULES)


def test_outputs_without_decisions_are_judged_by_altitude() -> None:
    values = replace(GOOD, A=None, A_upper=None, chance=1.0)
    assert decide(values, None, NOTHING, task="values", least_bits=8, thresholds=RULES).name == "inside"
    assert not is_inside(replace(values, D=0.06), "values", RULES)


def test_a_statistics_shift_is_not_called_an_exit() -> None:
    # The candidate as given stands behind a wall; the repair alone brings it home.
    found = _decide(WALL, GOOD, Trials(rounded=1.0, trained=0.001))
    assert found.name == "slope"
    assert "statistics" in found.cause


def test_without_trials_the_path_tells_a_bowl_from_a_wall() -> None:
    assert _decide(BOWL).name == "slope"
    assert _decide(WALL).name == "far"
    assert _decide(WALL, BOWL).name == "slope"
    for change in ({"steepest": 2.5}, {"R": 1.6}):
        assert met_wall(replace(BOWL, **change), RULES)
    assert _decide(replace(BOWL, D=1.7)).name == "far"
    assert not met_wall(replace(BOWL, steepest=float("nan")), RULES)


def test_a_trial_of_rounding_outweighs_the_path() -> None:
    assert _decide(WALL, trials=Trials(rounded=0.03)).name == "slope"
    assert _decide(BOWL, trials=Trials(rounded=0.2)).name == "far"


def test_exit_where_rounding_fails_and_training_returns() -> None:
    trials = Trials(rounded=0.5, trained=0.08)
    assert _decide(WALL, trials=trials).name == "exit"
    assert _decide(WALL, trials=replace(trials, trained=0.9)).name == "far"
    assert _decide(replace(WALL, inward=-0.1), trials=trials).name == "far"
    assert _decide(replace(WALL, inward=None), trials=trials).name == "far"


def test_part_of_the_way_back_counts_down_a_wall_but_not_in_a_bowl() -> None:
    half = Trials(rounded=0.5, trained=0.6)
    assert _decide(WALL, trials=half).name == "exit"
    assert _decide(replace(WALL, steepest=2.0, R=1.0), trials=half).name == "far"
    assert _decide(replace(WALL, D=5.0), trials=replace(half, trained=2.0)).name == "far"
    assert _decide(WALL, trials=replace(half, trained=0.8)).name == "far"


def test_more_altitude_than_a_guess_is_no_more_loss() -> None:
    assert _decide(replace(WALL, D=40.0), trials=Trials(rounded=0.5)).name == "far"


def test_activations_are_named_where_they_add_most() -> None:
    assert "activations" in _decide(replace(BOWL, activations_share=0.8)).cause


@pytest.mark.parametrize(
    ("facts", "bits", "name"),
    [
        (replace(WALL, D=float("nan")), 2, "broken"),
        (replace(WALL, D=float("inf")), 2, "broken"),
        (replace(WALL, D=2.4), 8, "broken"),
        (replace(WALL, D=2.4), 7, "far"),
        (replace(WALL, D=2.2), 8, "far"),
    ],
)
def test_broken_is_a_fault_and_not_a_grid(facts: Facts, bits: int, name: str) -> None:
    assert _decide(facts, bits=bits).name == name


@pytest.mark.parametrize("name", VERDICTS)
def test_every_verdict_has_a_command_to_paste(name: str) -> None:
    verdict = Verdict(name, "")  # type: ignore[arg-type]
    commands = remedy(verdict, "edgeq convert m.onnx --data d.npz --bits w3a8", ["conv1"], {"conv1": 5})
    assert commands
    assert all(command.startswith("edgeq ") for command in commands)
    if name in ("slope", "exit", "far"):
        assert any("--bits-for 'conv1=w5a8'" in command for command in commands)
