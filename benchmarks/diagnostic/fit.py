"""Fit the verdict's thresholds on the fitting models, judge them on the held-out ones, beside the usual measures.

    python benchmarks/diagnostic/fit.py        # reads results/cases.jsonl, writes results/verdicts.md and .json

What a case really was: ``truth.py``. Intervals are Clopper-Pearson, 95 %; a difference is bootstrapped over cases.
"""

import json
from dataclasses import asdict
from pathlib import Path

from rules import USUAL, Rule, balanced, fit_cures, fit_inside, fit_usual, ours
from tables import auc, blame_lines, confusion, counts, cure_lines, loss_table, model_lines, remedy_lines, share
from truth import loses, truth

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Fit, judge, and write."""
    rows = [json.loads(line) for line in (RESULTS / "cases.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if "rounded" in row]  # others were measured before the newest columns
    fitting, held = [r for r in rows if r["fitting"]], [r for r in rows if not r["fitting"]]
    thresholds = fit_cures(fitting, fit_inside(fitting))
    rules: dict[str, Rule] = {
        "edgeq": ours(thresholds),
        "edgeq, path and probe alone": ours(thresholds, with_rounding=False),
    }
    usual = {name: fit_usual(fitting, name) for name in USUAL}
    decided = [row for row in held if row["task"] != "values"]
    text = [
        f"# Verdicts on {len(rows)} cases\n",
        f"{len(fitting)} cases of {len({r['model'] for r in fitting})} models fit the thresholds, {len(held)} of "
        f"{len({r['model'] for r in held})} others judge them: {', '.join(sorted({r['model'] for r in held}))}.",
        f"Truth among the fitting: {counts(fitting)}; among the held-out: {counts(held)}.",
        f"\nFitted: {json.dumps({k: round(v, 4) for k, v in asdict(thresholds).items()})}\n",
        "## Loses more than one point, without labels (held-out)\n",
        *loss_table(rules["edgeq"], usual, held, "edgeq (by D)"),
        f"\nThe {len(decided)} cases that decide (classes and tokens) alone:\n",
        *loss_table(rules["edgeq"], usual, decided, "edgeq (by D)"),
        "\nThe AUC there by E "
        f"{auc([r['raw']['E'] for r in decided], [loses(r) for r in decided]):.3f}, by A "
        f"{auc([r['raw']['A'] for r in decided], [loses(r) for r in decided]):.3f}.",
        "\n## By model (held-out)\n",
        *model_lines(rules["edgeq"], held),
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
