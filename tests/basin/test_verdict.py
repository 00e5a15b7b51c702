"""The rules, one by one: each verdict with the facts that lead to it, and with the one fact changed that undoes it."""

import shlex
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import get_args

import pytest

from edgeq.basin.remedy import remedy
from edgeq.basin.verdict import (
    Facts,
    Kind,
    Thresholds,
    Trials,
    Verdict,
    decide,
    is_inside,
    met_wall,
)
from edgeq.calibration.methods import method
from edgeq.cli.convert import command as convert
from edgeq.cli.inspect import command as inspect
from edgeq.pipeline.diagnosis import seconds_of_training
from edgeq.plan.bits import Bits
from edgeq.recovery.stopping import Budget

RULES = Thresholds(inside=0.02, inside_changed=0.05, wall=2.4, bowl_ratio=1.5, chance=0.7, rounded=0.05,
                   rounded_share=0.02, trained=0.1, trained_share=0.2)  # fmt: skip
BOWL = Facts(D=0.3, A=0.1, A_upper=0.13, R=1.0, steepest=2.1, inward=0.6, chance=2.3)
WALL = replace(BOWL, D=1.2, A=0.3, A_upper=0.35, R=3.0, steepest=3.2)
GOOD = replace(BOWL, D=0.004, A=0.01, A_upper=0.03)
NOTHING = Trials()
KINDS: tuple[Kind, ...] = get_args(Kind)


def _decide(raw: Facts, repaired: Facts | None = None, trials: Trials = NOTHING, bits: int = 4) -> Verdict:
    return decide(raw, repaired, trials, task="classes", least_bits=bits, thresholds=RULES)


def _remedy(verdict: Verdict, trained: float = 0.0) -> tuple[str, ...]:
    return remedy(verdict, "edgeq convert m.onnx --data d", Bits.parse("w3a8"), ["conv1"], {}, trained=trained)


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
    assert (found.name, found.kind) == ("slope", "statistics")
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


def test_rounding_that_is_no_better_than_the_candidates_is_no_remedy() -> None:
    low = replace(BOWL, D=0.03)
    nearer = _decide(low, trials=Trials(rounded=0.02))
    assert nearer.kind == "rounding"
    assert "better rounding" in nearer.cause
    found = _decide(low, trials=Trials(rounded=0.04))
    assert (found.name, found.kind) == ("slope", "rounded")
    assert "as near as rounding comes" in found.cause
    first, *others = _remedy(found)
    assert first.endswith("--recover-budget 2min")
    assert not any("--method gptq" in command for command in (first, *others))


@pytest.mark.parametrize("verdict", [Verdict("exit", ""), Verdict("rounded", "")])
def test_what_a_short_training_left_wants_more_bits_first_and_then_a_longer_one(verdict: Verdict) -> None:
    assert ["2min" in command for command in _remedy(verdict)] == [True, False]
    wider, longer = _remedy(verdict, trained=120.0)
    assert "--bits-for conv1=" in wider
    assert longer.endswith("--recover-budget 10min")


@pytest.mark.parametrize("kind", ["exit", "rounded", "far"])
@pytest.mark.parametrize("budget", ["10min", "1h", "5000steps", "20000samples"])
def test_a_training_that_is_not_known_to_be_longer_is_no_remedy(kind: Kind, budget: str) -> None:
    (wider,) = _remedy(Verdict(kind, ""), trained=seconds_of_training(budget))
    assert "--bits-for conv1=" in wider
    assert len(_remedy(Verdict(kind, ""), trained=seconds_of_training("30s"))) == 2


def test_the_words_of_a_cause_choose_no_remedy() -> None:
    words = "statistics; as near as rounding comes; a short training, or more bits, may come nearer"
    for kind in KINDS:
        assert _remedy(Verdict(kind, words)) == _remedy(Verdict(kind, ""))
    assert _remedy(Verdict("statistics", ""))[0].endswith("--method statistics")
    for kind in ("rounding", "activations"):
        assert _remedy(Verdict(kind, ""))[0].endswith("--method gptq+variance")


def test_exit_where_rounding_fails_and_training_returns() -> None:
    trials = Trials(rounded=0.5, trained=0.08)
    assert _decide(WALL, trials=trials).name == "exit"
    assert _decide(WALL, trials=replace(trials, trained=0.9)).name == "far"
    assert _decide(replace(WALL, inward=-0.1), trials=trials).name == "far"
    assert _decide(replace(WALL, inward=None), trials=trials).name == "far"


def test_what_was_lost_says_how_much_of_the_way_back_is_enough() -> None:
    high, low = replace(WALL, D=2.0), replace(WALL, D=0.6)
    trials = Trials(rounded=0.5, trained=0.3)
    assert _decide(high, trials=trials).name == "exit"
    assert _decide(low, trials=trials).name == "far"
    # Altitude beyond a uniform guess is no more loss: at most 0.2 x 2.3 is enough.
    assert _decide(replace(WALL, D=40.0), trials=replace(trials, trained=0.45)).name == "exit"
    assert _decide(replace(WALL, D=40.0), trials=replace(trials, trained=0.48)).name == "far"


def test_more_altitude_than_a_guess_is_no_more_loss() -> None:
    assert _decide(replace(WALL, D=40.0), trials=Trials(rounded=0.5)).name == "far"


def test_activations_are_named_where_they_add_most() -> None:
    found = _decide(replace(BOWL, activations_share=0.8))
    assert (found.name, found.kind) == ("slope", "activations")
    assert "activations" in found.cause


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


def test_training_is_judged_from_where_it_was_tried() -> None:
    # Where descent does not lead inward, a low reading is luck.
    trials = Trials(rounded=0.4, trained=0.08, start=replace(WALL, D=0.4))
    assert _decide(replace(WALL, inward=-0.1), trials=trials).name == "exit"
    assert _decide(WALL, trials=replace(trials, start=replace(WALL, inward=-0.1))).name == "far"


def test_values_have_thresholds_of_their_own() -> None:
    rules = replace(RULES, values=0.01)
    values = replace(BOWL, A=None, A_upper=None, chance=1.0)

    def verdict(trials: Trials, D: float = 0.3) -> str:
        return decide(replace(values, D=D), None, trials, task="values", least_bits=4, thresholds=rules).name

    assert verdict(NOTHING, D=0.009) == "inside"
    assert verdict(Trials(rounded=0.009)) == "slope"
    assert verdict(Trials(rounded=0.02, trained=0.009)) == "exit"
    assert verdict(Trials(rounded=0.02, trained=0.07)) == "far"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", ["w3a8", "w3", "w4a4"])
def test_every_verdict_has_commands_that_parse(kind: Kind, bits: str) -> None:
    """Quoted for a shell, with flags that ``edgeq convert`` knows and values that it takes."""
    blamed, safe = ["conv1", "blocks[0].it's"], {"conv1": 5, "blocks[0].it's": None}
    asked, verdict = "edgeq convert 'my model.onnx' --data d.npz", Verdict(kind, "")
    found = remedy(verdict, asked, Bits.parse(bits), blamed, safe, activations_share=0.9)
    assert found
    for line in found:
        words = shlex.split(line)
        assert words[0] == "edgeq"
        assert words[2] == "my model.onnx"
        command = {"convert": convert, "inspect": inspect}[words[1]]
        given = command.make_context(words[1], words[2:]).params
        if words[1] == "convert":
            Bits.parse(given["bits"])
            if given["method"] != "auto":
                method(given["method"])
            if given["recover_budget"] is not None:
                Budget.parse(given["recover_budget"])
            for text in given["bits_for"]:
                Bits.parse(text.rpartition("=")[2])


def test_more_bits_go_where_the_blame_lies() -> None:
    far = Verdict("far", "")
    bits = Bits.parse("w3a8")
    wider = remedy(far, "edgeq convert m.onnx --data d", bits, ["conv1", "b[0]"], {"conv1": 5})[0]
    globs = [word.rpartition("=")[0] for word in shlex.split(wider) if "=" in word]
    assert "--bits-for conv1=w5a8" in wider
    assert [fnmatchcase(name, glob) for name, glob in zip(["conv1", "b[0]"], globs, strict=True)] == [True, True]
    # A layer that is to blame gets more bits than it has, though alone it would have enough.
    assert "--bits-for conv1=w4a8" in remedy(far, "edgeq convert m.onnx --data d", bits, ["conv1"], {"conv1": 3})[0]
    # Weights of more bits do not cure activations of too few.
    narrow = remedy(far, "edgeq convert m.onnx --data d", Bits.parse("w4a4"), ["conv1"], {}, activations_share=0.9)[0]
    assert narrow.endswith("--bits w4a8")
    # What has 8 bits gets 16, or stays in float.
    eight = Bits.parse("w8a8")
    wide = remedy(far, "edgeq convert m.onnx --data d", eight, ["conv1"], {}, activations_share=0.9)[0]
    assert wide.endswith("--bits w8a16")
    assert remedy(far, "edgeq convert m.onnx --data d", eight, ["conv1"], {})[0].endswith("--float conv1")
