"""Fit the verdict's thresholds on the fitting models, judge them on the held-out ones, beside the usual measures.

    python benchmarks/diagnostic/fit.py        # reads results/cases.jsonl, writes results/verdicts.md and .json

What a case really was: ``truth.py``. Intervals are Clopper-Pearson, 95 %; a difference is bootstrapped over cases.
Cases that were measured after the rules and thresholds were settled (``after_freeze``) fit nothing. They come first in
the results: models that no rule has ever seen, and then further settings of the models before.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rules import USUAL, Rule, balanced, fit_cures, fit_inside, fit_usual, ours
from tables import (
    auc,
    blame_lines,
    confusion,
    counts,
    cure_lines,
    loss_table,
    model_lines,
    remedy_lines,
    share,
    wrong_lines,
)
from truth import Row, loses, truth

from edgeq.basin.verdict import Thresholds

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Fit, judge, and write."""
    rows = [json.loads(line) for line in (RESULTS / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if "rounded" in row]  # others were measured before the newest columns
    settled = [row for row in rows if not row.get("after_freeze")]
    fitting, held = [r for r in settled if r["fitting"]], [r for r in settled if not r["fitting"]]
    seen = {row["model"] for row in settled}
    fresh = [row for row in rows if row["model"] not in seen]
    further = [row for row in rows if row.get("after_freeze") and row["model"] in seen]
    thresholds = fit_cures(fitting, fit_inside(fitting))
    fitted = json.dumps({k: round(v, 4) for k, v in asdict(thresholds).items()})
    text = [f"# Verdicts on {len(rows)} cases\n", f"Fitted on {len(fitting)} cases of {_models(fitting)}: {fitted}"]
    text.append(f"Truth among them: {counts(fitting)}.")
    for title, part in (
        ("Fresh held-out models: the rules and thresholds were frozen before the first case was measured", fresh),
        ("Held-out models: an interim table of some of these was in sight when the form of two rules was chosen", held),
        (
            "Further settings of models above, measured after the freeze (some of the models fit the thresholds)",
            further,
        ),
        ("All cases of held-out models, fresh or not", [r for r in rows if not r["fitting"]]),
    ):
        if part:
            text += [f"\n# {title}\n", *judged(fitting, part, thresholds)]
    rule = ours(thresholds)
    text += ["\n# The fitting models themselves", *confusion("edgeq", rule, fitting)]
    text += ["\n# Blame: a fifth of the layers left in float", *blame_lines(rows)]
    (RESULTS / "verdicts.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    summary = {"cases": len(rows), "thresholds": asdict(thresholds)}
    (RESULTS / "verdicts.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print("\n".join(text))


def judged(fitting: Sequence[Row], rows: Sequence[Row], thresholds: Thresholds) -> list[str]:
    """All tables on these cases; the usual measures with their best cuts on the fitting ones."""
    rules: dict[str, Rule] = {
        "edgeq": ours(thresholds),
        "edgeq, path and probe alone": ours(thresholds, with_rounding=False),
    }
    usual = {name: fit_usual(fitting, name) for name in USUAL}
    decided = [row for row in rows if row["task"] != "values"]
    text = [
        f"{len(rows)} cases of {_models(rows)}. Truth: {counts(rows)}.",
        "\n## Loses more than one point, without labels\n",
        *loss_table(rules["edgeq"], usual, rows, "edgeq (by D)"),
    ]
    if 0 < len(decided) < len(rows):
        text += [f"\nThe {len(decided)} cases that decide (classes and tokens) alone:\n",
                 *loss_table(rules["edgeq"], usual, decided, "edgeq (by D)")]  # fmt: skip
    if decided:
        by = {m: auc([r["raw"][m] for r in decided], [loses(r) for r in decided]) for m in ("E", "A")}
        text.append(f"\nThe AUC there by E {by['E']:.3f}, by A {by['A']:.3f}.")
    text += ["\n## By model\n", *model_lines(rules["edgeq"], rows), "\n## Class of every case"]
    text += [line for name, rule in rules.items() for line in confusion(name, rule, rows)]
    text += ["", *cure_lines(rules["edgeq"], rows), "\nWrong calls:\n", *wrong_lines(rules["edgeq"], rows)]
    text += ["\nThe usual measures, each with its three best cuts:\n", "| measure | right | balanced |\n|---|---|---|"]
    for name, rule in (rules | usual).items():
        pairs = [(truth(row), rule(row)) for row in rows]
        text.append(f"| {name} | {share(sum(a == b for a, b in pairs), len(pairs))} | {balanced(pairs):.2f} |")
    return [*text, "\n## Will a remedy repair it? (cases that lose)\n", *remedy_lines(fitting, rows, thresholds)]


def _models(rows: Sequence[Row]) -> str:
    names = sorted({row["model"] for row in rows})
    return f"{len(names)} models ({', '.join(names)})"


if __name__ == "__main__":
    main()
