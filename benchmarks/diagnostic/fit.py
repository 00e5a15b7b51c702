"""Fit the verdict's thresholds on the fitting models, judge them on the held-out ones, beside the usual measures.

    python benchmarks/diagnostic/fit.py        # reads results/cases.jsonl, writes results/verdicts.md and .json

Truth of a case, on labelled test samples:
- *loses*: accuracy falls by more than one point;
- *repaired* by a remedy: it loses at most one point, or at most a tenth of what the candidate lost;
- class: inside (does not lose), slope (better rounding repairs it), exit (a short QAT does and rounding does not), far.
Intervals are Clopper-Pearson, 95 %. The bootstrap of a difference resamples cases.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from edgeq.basin.verdict import Facts, Thresholds, Trials, decide, is_inside, rounding_cures, training_cures

RESULTS = Path(__file__).parent / "results"
CLASSES = ("inside", "slope", "exit", "far")
USUAL = (
    "bits", "weight_sqnr_mean", "weight_sqnr_worst", "weight_mse", "cosine_mean", "cosine_worst", "output_sqnr",
    "hessian",
)  # fmt: skip
#: Of these, more is worse; of the others, less.
WORSE_UP = ("weight_mse", "hessian")
Row = dict[str, Any]
Rule = Callable[[Row], str]


def truth(row: Row) -> str:
    """What the case really was."""
    t = row["truth"]
    if t["float"] - t["raw"] <= 0.01:
        return "inside"
    if repaired(row, "rounding", "repaired"):
        return "slope"
    return "exit" if repaired(row, "qat") else "far"


def facts(reading: Row, chance: float) -> Facts:
    share = 0.0 if reading["D"] <= 0 else max(0.0, 1 - reading["weights_D"] / reading["D"])
    return Facts(
        reading["D"], reading["A"], reading["A_upper"], reading["R"], reading["steepest"], reading["I"], chance, share
    )


def ours(thresholds: Thresholds, *, with_rounding: bool = True) -> Rule:
    """The product's own rules on a case's numbers."""

    def rule(row: Row) -> str:
        raw = facts(row["raw"], row["chance"])
        repaired = facts(row["repaired"], row["chance"]) if row["helps"] else None
        trials = Trials(row["rounding"]["D"] if with_rounding else None, min(row["probe"]["deployed"]))
        bits = int(row["usual"]["bits"])
        found = decide(raw, repaired, trials, task=row["task"], least_bits=bits, thresholds=thresholds)
        return "far" if found.name == "broken" else found.name

    return rule


def fit_inside(rows: Sequence[Row]) -> Thresholds:
    """The most generous `inside` that calls no losing case of the fitting models so."""
    best, chosen = -1.0, Thresholds()
    changes = (0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.08)
    for height, changed in itertools.product(np.geomspace(0.002, 0.1, 18), changes):
        tried = replace(Thresholds(), inside=float(height), inside_changed=changed)
        calls = [is_inside(facts(row["raw"], row["chance"]), row["task"], tried) for row in rows]
        wrong = sum(call and truth(row) != "inside" for call, row in zip(calls, rows, strict=True))
        right = sum(call and truth(row) == "inside" for call, row in zip(calls, rows, strict=True))
        # Among equals the tighter pair, which is the one tried first.
        score = right - 20 * wrong
        if score > best:
            best, chosen = score, tried
    return chosen


def repaired(row: Row, *remedies: str) -> bool:
    """Whether one of the remedies repaired the case."""
    t = row["truth"]
    limit = max(0.01, 0.1 * (t["float"] - t["raw"]))
    return any(bool(t["float"] - t[remedy] <= limit) for remedy in remedies)


def states(row: Row) -> tuple[Facts, Facts, Trials]:
    """The candidate as given, the better of it and its repair, and the trials."""
    raw = facts(row["raw"], row["chance"])
    best = facts(row["repaired"], row["chance"]) if row["helps"] else raw
    return raw, best, Trials(row["rounding"]["D"], min(row["probe"]["deployed"]))


def fit_cures(rows: Sequence[Row], start: Thresholds) -> Thresholds:
    """Thresholds of the trials and of the wall: each remedy's own cases first, then the wall without the trial."""
    losing = [row for row in rows if truth(row) != "inside"]
    known = [states(row) for row in losing]

    def best_of(
        fields: dict[str, Sequence[float]], right: Callable[[Thresholds], float], base: Thresholds
    ) -> Thresholds:
        tried = [
            replace(base, **dict(zip(fields, values, strict=True))) for values in itertools.product(*fields.values())
        ]
        return max(tried, key=right)

    def rounding(t: Thresholds) -> float:
        pairs = [
            (repaired(row, "rounding"), rounding_cures(raw, trials, t))
            for row, (raw, _, trials) in zip(losing, known, strict=True)
        ]
        return balanced([(str(a), str(b)) for a, b in pairs])

    def training(t: Thresholds) -> float:
        pairs = [
            (repaired(row, "qat"), training_cures(best, trials, t))
            for row, (_, best, trials) in zip(losing, known, strict=True)
        ]
        return balanced([(str(a), str(b)) for a, b in pairs])

    found = best_of(
        {"rounded": (0.02, 0.035, 0.05, 0.07, 0.1, 0.14), "rounded_share": (0.0, 0.02, 0.04, 0.06)}, rounding, start
    )
    grid = {
        "trained": (0.03, 0.05, 0.07, 0.1, 0.14), "fall": (0.3, 0.4, 0.5, 0.6), "wall": (2.3, 2.6, 2.9, 3.2),
        "bowl_ratio": (1.2, 1.4, 1.6, 2.0, 3.0), "lost": (0.7, 1.2, 1.7, 2.5),
    }  # fmt: skip
    return best_of(grid, training, found)


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
    inside_cut = fit_cut(values, np.array([kind != "inside" for kind in kinds]))
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


def share(right: int, total: int) -> str:
    """A share with its interval."""
    if total == 0:
        return "none"
    low = stats.beta.ppf(0.025, right, total - right + 1) if right else 0.0
    high = stats.beta.ppf(0.975, right + 1, total - right) if right < total else 1.0
    return f"{right}/{total} = {right / total:.0%} [{low:.0%}, {high:.0%}]"


def auc(scores: Sequence[float], loses: Sequence[bool]) -> float:
    """Chance that a losing case scores higher than one that does not."""
    a = np.array([s for s, bad in zip(scores, loses, strict=True) if bad])
    b = np.array([s for s, bad in zip(scores, loses, strict=True) if not bad])
    if not (len(a) and len(b)):
        return float("nan")
    return float((a[:, None] > b).mean() + 0.5 * (a[:, None] == b).mean())


def loss_line(name: str, rule: Rule, rows: Sequence[Row], score: Callable[[Row], float]) -> str:
    loses = [truth(row) != "inside" for row in rows]
    called = [rule(row) != "inside" for row in rows]
    hits = sum(a and b for a, b in zip(loses, called, strict=True))
    missed = sum(a and not b for a, b in zip(loses, called, strict=True))
    worst = max([row["truth"]["float"] - row["truth"]["raw"] for row in rows if rule(row) == "inside"], default=0.0)
    return (
        f"| {name} | {share(hits, sum(called))} | {share(hits, sum(loses))} | {missed} (worst {100 * worst:.1f}) "
        f"| {auc([score(row) for row in rows], loses):.3f} |"
    )


def confusion(name: str, rule: Rule, rows: Sequence[Row]) -> list[str]:
    pairs = [(truth(row), rule(row)) for row in rows]
    right = sum(a == b for a, b in pairs)
    table = [f"\n{name}: right {share(right, len(pairs))}, balanced {balanced(pairs):.2f}\n",
             "| truth \\ called | " + " | ".join(CLASSES) + " |", "|---|" + "---|" * len(CLASSES)]  # fmt: skip
    for kind in CLASSES:
        counts = [sum(a == kind and b == call for a, b in pairs) for call in CLASSES]
        table.append(f"| {kind} | " + " | ".join(map(str, counts)) + " |")
    return table


def cure_lines(rule: Rule, rows: Sequence[Row]) -> list[str]:
    found = []
    for call, says, holds in (
        ("slope", "repaired by better rounding", lambda row: truth(row) == "slope"),
        ("exit", "repaired by short QAT and not by rounding", lambda row: truth(row) == "exit"),
        ("far", "repaired by neither", lambda row: truth(row) == "far"),
    ):
        called = [row for row in rows if rule(row) == call]
        found.append(f"- of those called `{call}`, {says}: {share(sum(map(holds, called)), len(called))}")
    return found


def remedy_lines(fitting: Sequence[Row], held: Sequence[Row], thresholds: Thresholds) -> list[str]:
    """Will this remedy repair it? Of the losing held-out cases, beside each usual measure with its best cut."""
    lines = ["| remedy | by | right | precision | recall |", "|---|---|---|---|---|"]
    losing, learnt = ([row for row in part if truth(row) != "inside"] for part in (held, fitting))
    ours_ = {
        "rounding": lambda row: rounding_cures(states(row)[0], states(row)[2], thresholds),
        "qat": lambda row: training_cures(states(row)[1], states(row)[2], thresholds),
    }
    for remedy, rule in ours_.items():
        lines.append(_remedy_line(remedy, "edgeq", [(repaired(row, remedy), rule(row)) for row in losing]))
        lines.append(_remedy_line(remedy, "always yes", [(repaired(row, remedy), True) for row in losing]))
        for name in USUAL:
            cuts = sorted({usual_value(row, name) for row in learnt})
            scores = [
                balanced([(str(repaired(row, remedy)), str(usual_value(row, name) <= cut)) for row in learnt])
                for cut in cuts
            ]
            cut = cuts[int(np.argmax(scores))]
            pairs = [(repaired(row, remedy), usual_value(row, name) <= cut) for row in losing]
            lines.append(_remedy_line(remedy, name, pairs))
    return lines


def _remedy_line(remedy: str, by: str, pairs: Sequence[tuple[bool, bool]]) -> str:
    hits = sum(a and b for a, b in pairs)
    right = share(sum(a == b for a, b in pairs), len(pairs))
    precision, recall = share(hits, sum(b for _, b in pairs)), share(hits, sum(a for a, _ in pairs))
    return f"| {remedy} | {by} | {right} | {precision} | {recall} |"


def blame_lines(rows: Sequence[Row]) -> list[str]:
    """Accuracy restored by leaving a fifth of the layers in float, chosen by each rule; cases that lose."""
    tried = [row for row in rows if row["blame"] is not None and truth(row) != "inside"]
    lines = [
        "| layers chosen by | mean share of the loss restored | blame minus this, 95 % bootstrap |",
        "|---|---|---|",
    ]
    gains = {rule: np.array([_restored(row, rule) for row in tried]) for rule in ("blame", "alone", "sqnr", "random")}
    generator = np.random.default_rng(0)
    draws = generator.integers(0, len(tried), (4000, len(tried)))
    names = {"blame": "blame (path integral)", "alone": "one at a time", "sqnr": "weight SQNR", "random": "chance"}
    for rule, values in gains.items():
        low, high = np.quantile((gains["blame"] - values)[draws].mean(1), [0.025, 0.975])
        difference = "" if rule == "blame" else f"{(gains['blame'] - values).mean():+.1%} [{low:+.1%}, {high:+.1%}]"
        lines.append(f"| {names[rule]} | {values.mean():.1%} | {difference} |")
    return [f"\n{len(tried)} cases.\n", *lines]


def _restored(row: Row, rule: str) -> float:
    t = row["truth"]
    return float((row["blame"][rule] - t["raw"]) / (t["float"] - t["raw"]))


def main() -> None:
    """Fit, judge, and write."""
    rows = [json.loads(line) for line in (RESULTS / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    fitting, held = [r for r in rows if r["fitting"]], [r for r in rows if not r["fitting"]]
    thresholds = fit_cures(fitting, fit_inside(fitting))
    rules: dict[str, Rule] = {
        "edgeq": ours(thresholds),
        "edgeq, path and probe alone": ours(thresholds, with_rounding=False),
    }
    usual = {name: fit_usual(fitting, name) for name in USUAL}
    text = [
        f"# Verdicts on {len(rows)} cases\n",
        f"{len(fitting)} cases of {len({r['model'] for r in fitting})} models fit the thresholds, {len(held)} of "
        f"{len({r['model'] for r in held})} others judge them: {', '.join(sorted({r['model'] for r in held}))}.",
        f"Truth among the held-out: {', '.join(f'{sum(truth(r) == k for r in held)} {k}' for k in CLASSES)}.",
        f"\nFitted: {json.dumps({k: round(v, 4) for k, v in asdict(thresholds).items()})}\n",
        "## Loses more than one point, without labels (held-out)\n",
        "| by | precision of `loses` | recall of `loses` | called inside but loses | AUC |\n|---|---|---|---|---|",
        loss_line("edgeq", rules["edgeq"], held, lambda r: r["raw"]["D"]),
        *(loss_line(n, usual[n], held, lambda r, n=n: usual_value(r, n)) for n in USUAL),
        "\n## Class of every case (held-out)",
        *(line for name, rule in rules.items() for line in confusion(name, rule, held)),
        *cure_lines(rules["edgeq"], held),
        "\nThe usual measures, each with its three best cuts:\n",
        "| measure | right | balanced |\n|---|---|---|",
    ]
    for name, rule in (rules | usual).items():
        pairs = [(truth(row), rule(row)) for row in held]
        text.append(f"| {name} | {share(sum(a == b for a, b in pairs), len(pairs))} | {balanced(pairs):.2f} |")
    text += ["\n## Will a remedy repair it? (held-out cases that lose)\n", *remedy_lines(fitting, held, thresholds)]
    text += ["\n## On the fitting models", *confusion("edgeq", rules["edgeq"], fitting)]
    text += ["\n## Blame: a fifth of the layers left in float", *blame_lines(rows)]
    (RESULTS / "verdicts.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    summary = {"cases": len(rows), "thresholds": asdict(thresholds)}
    (RESULTS / "verdicts.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
