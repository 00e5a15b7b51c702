"""The tables of verdicts.md: shares with intervals, losses told, confusion, remedies, models, blame."""

from collections.abc import Callable, Sequence

import numpy as np
from rules import USUAL, Rule, balanced, says_rounding, says_training, usual_value
from scipy import stats
from truth import CLASSES, TRAINED, Row, drop, loses, truth

from edgeq.basin.verdict import Thresholds


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
    lost = [loses(row) for row in rows]
    called = [rule(row) != "inside" for row in rows]
    hits = sum(a and b for a, b in zip(lost, called, strict=True))
    missed = sum(a and not b for a, b in zip(lost, called, strict=True))
    worst = max([drop(row) for row, out in zip(rows, called, strict=True) if not out], default=0.0)
    inside = share(len(rows) - sum(called) - missed, len(rows) - sum(lost))
    return (
        f"| {name} | {share(hits, sum(called))} | {share(hits, sum(lost))} | {missed} (worst {100 * worst:.1f}) "
        f"| {inside} | {auc([score(row) for row in rows], lost):.3f} |"
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
    """What became of the cases of each verdict."""
    found = []
    for call, says, kind in (
        ("slope", "repaired by better rounding", "slope"),
        ("exit", "repaired by short QAT and not by rounding", "exit"),
        ("far", "repaired by neither", "far"),
    ):
        called = [row for row in rows if rule(row) == call]
        healthy = sum(not loses(row) for row in called)
        right = share(sum(truth(row) == kind for row in called), len(called) - healthy)
        found.append(f"- of those called `{call}` that lose, {says}: {right}; {healthy} more lose nothing")
    return found


def wrong_lines(rule: Rule, rows: Sequence[Row]) -> list[str]:
    """Every case whose class was called wrongly, with what it was, in points lost."""
    lines = [
        "| case | truth | called | D | lost: as given | repaired | better rounding | short QAT | trial of rounding, D "
        "| of training, D |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if (call := rule(row)) == truth(row):
            continue
        kept = [state for state in TRAINED if row["truth"].get(state) is not None]
        trained = f"{100 * min(drop(row, state) for state in kept):.1f}" if kept else ""
        lost = [f"{100 * drop(row, state):.1f}" for state in ("raw", "repaired", "rounding")]
        name = f"{row['model']} {'/'.join(str(part) for part in row['setting'].values())}"
        lines.append(
            f"| {name} | {truth(row)} | {call} | {row['raw']['D']:.3g} | {' | '.join(lost)} | {trained} "
            f"| {row['rounded']['D']:.3g} | {min(row['probe']['deployed']):.3g} |"
        )
    return lines if len(lines) > 2 else ["none"]


def model_lines(rule: Rule, rows: Sequence[Row]) -> list[str]:
    """The same by model: what holds on each of them."""
    lines = ["| model | task | cases | lose | called inside but lose | healthy called inside | class right |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for model in sorted({row["model"] for row in rows}):
        part = [row for row in rows if row["model"] == model]
        calls = [rule(row) for row in part]
        lost = [loses(row) for row in part]
        missed = sum(c == "inside" and bad for c, bad in zip(calls, lost, strict=True))
        healthy = sum(c == "inside" and not bad for c, bad in zip(calls, lost, strict=True))
        right = sum(c == truth(row) for c, row in zip(calls, part, strict=True))
        lines.append(f"| {model} | {part[0]['task']} | {len(part)} | {sum(lost)} | {missed} "
                     f"| {healthy}/{len(part) - sum(lost)} | {right}/{len(part)} |")  # fmt: skip
    return lines


def remedy_lines(fitting: Sequence[Row], held: Sequence[Row], thresholds: Thresholds) -> list[str]:
    """Will this remedy repair it? Beside each usual measure with its best cut.

    Rounding is asked of the cases that lose, training of those that rounding does not repair.
    """
    lines = ["| remedy | by | right | precision | recall |", "|---|---|---|---|---|"]
    ours_: dict[str, tuple[str, Callable[[Row, Thresholds], bool], tuple[str, ...]]] = {
        "rounding": ("slope", says_rounding, ("slope", "exit", "far")),
        "short QAT": ("exit", says_training, ("exit", "far")),
    }
    for remedy, (kind, says, asked) in ours_.items():
        judged, learnt = ([row for row in part if truth(row) in asked] for part in (held, fitting))
        real = [truth(row) == kind for row in judged]
        lines.append(
            _remedy_line(remedy, "edgeq", [(a, says(row, thresholds)) for a, row in zip(real, judged, strict=True)])
        )
        lines.append(_remedy_line(remedy, "always yes", [(a, True) for a in real]))
        for name in USUAL:
            known = [truth(row) == kind for row in learnt]
            values = [usual_value(row, name) for row in learnt]
            cuts = sorted(set(values))
            scores = [balanced([(str(a), str(v <= cut)) for a, v in zip(known, values, strict=True)]) for cut in cuts]
            cut = cuts[int(np.argmax(scores))]
            pairs = [(a, usual_value(row, name) <= cut) for a, row in zip(real, judged, strict=True)]
            lines.append(_remedy_line(remedy, name, pairs))
    return lines


def _remedy_line(remedy: str, by: str, pairs: Sequence[tuple[bool, bool]]) -> str:
    hits = sum(a and b for a, b in pairs)
    right = share(sum(a == b for a, b in pairs), len(pairs))
    precision, recall = share(hits, sum(b for _, b in pairs)), share(hits, sum(a for a, _ in pairs))
    return f"| {remedy} | {by} | {right} | {precision} | {recall} |"


def blame_lines(rows: Sequence[Row]) -> list[str]:
    """Accuracy restored by leaving a fifth of the layers in float, chosen by each rule; cases that lose."""
    tried = [row for row in rows if row["blame"] is not None and loses(row)]
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


def counts(rows: Sequence[Row]) -> str:
    """How many cases of each class."""
    return ", ".join(f"{sum(truth(row) == kind for row in rows)} {kind}" for kind in CLASSES)


def loss_table(rule: Rule, usual: dict[str, Rule], rows: Sequence[Row], name: str) -> list[str]:
    """Who tells a loss: ours and the usual measures."""
    return [
        "| by | precision of `loses` | recall of `loses` | called inside but loses | healthy called inside | AUC |",
        "|---|---|---|---|---|---|",
        loss_line(name, rule, rows, lambda row: row["raw"]["D"]),
        *(loss_line(n, usual[n], rows, lambda row, n=n: usual_value(row, n)) for n in USUAL),
    ]
