"""Verdicts from a case's numbers by the product's rules, how their thresholds are fitted, and the usual measures'."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from truth import Row, loses, truth

from edgeq.basin.verdict import (
    Facts,
    Thresholds,
    Trials,
    decide,
    has_saturated,
    is_inside,
    met_wall,
    rounding_cures,
    training_cures,
)

USUAL = (
    "bits", "weight_sqnr_mean", "weight_sqnr_worst", "weight_mse", "cosine_mean", "cosine_worst", "output_sqnr",
    "hessian",
)  # fmt: skip
#: Of these, more is worse; of the others, less.
WORSE_UP = ("weight_mse", "hessian")
Rule = Callable[[Row], str]


def facts(reading: Row, chance: float) -> Facts:
    """The numbers of one state, as the product has them."""
    share = 0.0 if reading["D"] <= 0 else max(0.0, 1 - reading["weights_D"] / reading["D"])
    return Facts(
        reading["D"], reading["A"], reading["A_upper"], reading["R"], reading["steepest"], reading["I"], chance, share,
        reading["E"], reading["E_upper"],
    )  # fmt: skip


def ours(thresholds: Thresholds, *, with_rounding: bool = True) -> Rule:
    """The product's own rules on a case's numbers."""

    def rule(row: Row) -> str:
        raw, _, trials = states(row)
        fixed = facts(row["repaired"], row["chance"]) if row["helps"] else None
        if not with_rounding:
            trials = Trials(None, trials.trained)
        bits = int(row["usual"]["bits"])
        found = decide(raw, fixed, trials, task=row["task"], least_bits=bits, thresholds=thresholds)
        return "far" if found.name == "broken" else found.name

    return rule


def fit_inside(rows: Sequence[Row]) -> Thresholds:
    """The most generous `inside` that calls no losing case of the fitting models so."""
    grid: dict[str, Any] = {
        "inside": np.geomspace(0.002, 0.1, 18), "inside_changed": (0.01, 0.02, 0.03, 0.05, 0.08, 0.15),
        "inside_lost": (0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.01, 0.02, 1.0),
    }  # fmt: skip
    decided, valued = ([row for row in rows if (row["task"] == "values") is values] for values in (False, True))
    found = _most_generous(decided, grid, Thresholds())
    return _most_generous(valued, {"values": np.geomspace(0.001, 0.2, 40)}, found) if valued else found


def _most_generous(rows: Sequence[Row], grid: dict[str, Any], start: Thresholds) -> Thresholds:
    best, chosen = -1.0, start
    for values in itertools.product(*grid.values()):
        tried = replace(start, **{name: float(value) for name, value in zip(grid, values, strict=True)})
        calls = [is_inside(facts(row["raw"], row["chance"]), row["task"], tried) for row in rows]
        wrong = sum(call and loses(row) for call, row in zip(calls, rows, strict=True))
        # Among equals the tightest, which is the one tried first.
        score = sum(calls) - wrong - 20 * wrong
        if score > best:
            best, chosen = score, tried
    return chosen


def states(row: Row) -> tuple[Facts, Facts, Trials]:
    """The candidate as given, the state from which training was tried, and the trials."""
    raw, start = facts(row["raw"], row["chance"]), facts(row[row["start"]], row["chance"])
    return raw, start, Trials(row["rounded"]["D"], min(row["probe"]["deployed"]), start)


def fit_cures(rows: Sequence[Row], start: Thresholds) -> Thresholds:
    """Thresholds of the trials: rounding on the losing cases, training on those that rounding does not repair.

    And of the path alone, which judges files of other tools, whose rounding is not tried.
    """
    decided = [row for row in rows if row["task"] != "values"]
    losing = [row for row in decided if loses(row)]
    failed = [row for row in losing if truth(row) != "slope"]

    def best_of(
        fields: dict[str, Sequence[float]], right: Callable[[Thresholds], float], base: Thresholds
    ) -> Thresholds:
        tried = [
            replace(base, **dict(zip(fields, values, strict=True))) for values in itertools.product(*fields.values())
        ]
        return max(tried, key=right)

    def rounding(t: Thresholds) -> float:
        return balanced([(str(truth(row) == "slope"), str(says_rounding(row, t))) for row in losing])

    def training(t: Thresholds) -> float:
        return balanced([(str(truth(row) == "exit"), str(says_training(row, t))) for row in failed])

    def path(t: Thresholds) -> float:
        best = [facts(row["repaired" if row["helps"] else "raw"], row["chance"]) for row in losing]
        slopes = [not (met_wall(state, t) or has_saturated(state, t)) for state in best]
        return balanced([(str(truth(row) == "slope"), str(slope)) for row, slope in zip(losing, slopes, strict=True)])

    walls = {"wall": (2.3, 2.6, 2.9, 3.2), "bowl_ratio": (1.2, 1.4, 1.6, 2.0, 3.0), "chance": (0.2, 0.35, 0.5, 0.7)}
    start = best_of(walls, path, start)
    lows, shares = (0.02, 0.035, 0.05, 0.07, 0.1, 0.14), (0.0, 0.02, 0.04, 0.06, 0.08)
    found = best_of({"rounded": lows, "rounded_share": shares}, rounding, start)
    shares = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5)
    return best_of({"trained": lows, "trained_share": shares}, training, found)


def says_rounding(row: Row, thresholds: Thresholds) -> bool:
    """Whether the product expects better rounding to repair the case."""
    raw, _, trials = states(row)
    return rounding_cures(raw, trials, row["task"], thresholds)


def says_training(row: Row, thresholds: Thresholds) -> bool:
    """Whether the product expects a short QAT to repair the case."""
    raw, start, trials = states(row)
    return training_cures(raw, start, trials, row["task"], thresholds)


def balanced(pairs: Sequence[tuple[str, str]]) -> float:
    """Share of right calls, half by case and half averaged over the true classes, so that rare ones count."""
    kinds = sorted({true for true, _ in pairs})
    by_class = np.mean([np.mean([a == b for a, b in pairs if a == kind]) for kind in kinds])
    return 0.5 * float(by_class) + 0.5 * float(np.mean([a == b for a, b in pairs]))


def usual_value(row: Row, name: str) -> float:
    """A usual measure, turned so that more is worse."""
    return float(row["usual"][name]) * (1 if name in WORSE_UP else -1)


def fit_usual(rows: Sequence[Row], name: str) -> Rule:
    """The best three cuts of one measure: inside, slope, exit, far in the order of growing damage."""
    values = np.array([usual_value(row, name) for row in rows])
    kinds = [truth(row) for row in rows]
    inside_cut = fit_cut(values, np.array([loses(row) for row in rows]))
    losing = [(v, kind) for v, kind in zip(values, kinds, strict=True) if kind != "inside"]
    cuts = np.unique(np.quantile(values, np.linspace(0, 1, 25)))
    best, chosen = -1.0, (np.inf, np.inf)
    for a, b in itertools.combinations_with_replacement([*cuts, np.inf], 2):
        score = balanced([(kind, "slope" if v <= a else "exit" if v <= b else "far") for v, kind in losing])
        if score > best:
            best, chosen = score, (float(a), float(b))

    def rule(row: Row) -> str:
        v = usual_value(row, name)
        return "inside" if v <= inside_cut else "slope" if v <= chosen[0] else "exit" if v <= chosen[1] else "far"

    return rule


def fit_cut(values: np.ndarray, loses: np.ndarray) -> float:
    """The most generous cut that calls no losing case inside, by the same score as ours."""
    best, chosen = -np.inf, -np.inf
    for cut in np.unique(values):
        called = values <= cut
        score = float((called & ~loses).sum() - 20 * (called & loses).sum())
        if score > best:
            best, chosen = score, float(cut)
    return chosen
