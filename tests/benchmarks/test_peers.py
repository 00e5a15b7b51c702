"""The benchmark against the peers: its statistics, its tables, and that every script it names is there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_mcnemar_is_the_binomial_test_of_the_samples_that_differ() -> None:
    from paired import mcnemar

    first = np.array([True] * 50 + [True] * 9 + [False] * 2 + [False] * 7)
    second = np.array([True] * 50 + [False] * 9 + [True] * 2 + [False] * 7)
    by_hand = 2 * sum(stats.binom.pmf(k, 11, 0.5) for k in range(3))
    assert mcnemar(first, second) == pytest.approx(by_hand)
    assert mcnemar(second, first) == mcnemar(first, second)
    assert mcnemar(first, first) == 1.0


@pytest.mark.parametrize("count", [1, 8, 694, 10_000])
def test_decisions_survive_packing(count: int) -> None:
    from paired import packed, unpacked

    decided = np.random.default_rng(count).random(count) < 0.9
    assert np.array_equal(unpacked(packed(decided), count), decided)


def _row(share: float, **other: Any) -> dict[str, Any]:
    from paired import packed

    decided = np.arange(1000) < share * 1000
    return {
        "score": share, "each": packed(decided), "file kB": 1.0, "seconds": 1.0, "peak": 2.0, "base": 1.0, "note": "",
    } | other  # fmt: skip


def _results(**rows: dict[str, Any]) -> dict[str, Any]:
    found = {f"w4a8|{key.replace('_', '|')}": row for key, row in rows.items()}
    return {"net": {"tested": 1000, "metric": "top-1 %", "float": 0.9, "each": _row(0.9)["each"], "rows": found}}


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict"), [(0.8, 0.85, "**behind**"), (0.85, 0.8, "ahead"), (0.8, 0.802, "level")]
)
def test_the_summary_says_who_is_ahead(ours: float, theirs: float, verdict: str) -> None:
    from peers.tables import summary

    text = summary(_results(edgeq_auto=_row(ours), tool_gptq=_row(theirs), tool_nearest=_row(0.1)))
    line = next(line for line in text.splitlines() if line.startswith("| net"))
    assert line.endswith(f"| {verdict} |")
    assert f"tool gptq {theirs * 100:.2f}" in line
    assert text.splitlines()[-3].startswith("In 1 of 1" if verdict == "**behind**" else "In none of 1")
    counts = [int(verdict == kind) for kind in ("ahead", "level", "**behind**")]
    told = "Of 1 cells `auto` is ahead of the best peer in {}, level with it in {}, behind it in {}."
    assert text.splitlines()[-4].startswith(told.format(*counts))


def test_many_comparisons_are_corrected_for() -> None:
    from peers.tables import summary

    cell = _results(edgeq_auto=_row(0.8), tool_a=_row(0.806))["net"]  # six samples more: p is 0.03
    alone = summary({"net": cell}).splitlines()[-4]
    assert "behind it in 1. After Holm's correction for so many comparisons: ahead in 0, behind in 1." in alone
    both = summary({"net": cell, "twin": cell}).splitlines()[-4]
    assert "behind it in 2. After Holm's correction for so many comparisons: ahead in 0, behind in 0." in both


def test_the_summary_owns_up_to_better_methods_and_faster_peers() -> None:
    from peers.tables import summary

    rows = _results(edgeq_auto=_row(0.8, seconds=5.0), edgeq_gptq=_row(0.85), tool_a=_row(0.8, seconds=2.0))
    own, time = summary(rows).splitlines()[-2:]
    assert (
        own == "In 1 of 1 cells another method of ours is ahead of `auto` by more than chance: net w4a8 (gptq, +5.00)."
    )
    assert (
        time == "In 1 of 1 cells a peer that `auto` is not ahead of, in decisions as float either, needs fewer CPU s: "
        "net w4a8 (tool a, 2.0 s; our gptq, as good as that, 1.0 s)."
    )
    rows = _results(edgeq_auto=_row(0.9, seconds=5.0), edgeq_gptq=_row(0.85), tool_a=_row(0.8, seconds=2.0))
    assert all(line.startswith("In none") for line in summary(rows).splitlines()[-3:])


@pytest.mark.parametrize(("same", "as_good"), [(0.90, False), (0.945, True), (0.99, True)])
def test_a_peer_of_other_decisions_is_not_as_good_though_its_score_is(same: float, as_good: bool) -> None:
    from peers.tables import summary

    ours, theirs = _row(0.8, seconds=5.0) | {"as float": 0.95}, _row(0.8, seconds=2.0) | {"as float": same}
    time = summary(_results(edgeq_auto=ours, tool_a=theirs)).splitlines()[-1]
    assert time.startswith("In 1 of 1" if as_good else "In none")


def test_activations_that_are_quantized_on_the_way_are_a_format_of_their_own() -> None:
    from peers.tables import summary, table

    rows = {"edgeq_auto": _row(0.8), "edgeq_dynamic": _row(0.9), "tool_a": _row(0.75), "tool_dynamic": _row(0.85)}
    found = _results(**rows)
    found["net"]["rows"]["w4a8|torchao linear|hqq"] = _row(0.86)
    lines = [line for line in summary(found).splitlines() if line.startswith("| net")]
    assert ["tool a 75.00" in line for line in lines] == [True, False]
    assert lines[1].startswith("| net | w4a8 dynamic | 90.00 | 90.00 |")
    assert "torchao linear hqq 86.00" in lines[1]
    assert "| net | w4a8 dynamic | tool | dynamic |" in table(found)


def test_of_a_metric_where_less_is_better_the_least_is_best() -> None:
    from peers.metrics import METRICS
    from peers.tables import summary

    metric = METRICS["nll a token"]
    scores = np.random.default_rng(0).normal(1.4, 0.2, 300)

    def row(more: float) -> dict[str, Any]:
        each = scores + more + np.random.default_rng(1).normal(0, 0.001, 300)
        return _row(0.0) | {"score": float(each.mean()), "each": metric.packed(each)}

    facts = {"tested": 300, "metric": metric.name, "float": 1.4, "each": metric.packed(scores)}
    for more, verdict in ((0.01, "ahead"), (-0.01, "**behind**"), (0.0, "level")):
        rows = {"w4|edgeq|auto": row(0.05), "w4|tool|a": row(0.05 + more), "w4|tool|worse": row(0.2)}
        line = next(text for text in summary({"net": facts | {"rows": rows}}).splitlines() if text.startswith("| net"))
        assert line.endswith(f"| {verdict} |")
        assert "| tool a 1." in line


def test_scores_that_are_no_shares_survive_packing_and_are_compared_by_the_paired_t() -> None:
    from peers.metrics import METRICS

    metric = METRICS["cosine to float"]
    first, second = np.random.default_rng(0).random((2, 200)).astype(np.float32).astype(np.float64)
    assert np.array_equal(metric.unpacked(metric.packed(first), 200), first)
    assert metric.p(first, second) == pytest.approx(stats.ttest_1samp(first - second, 0).pvalue)
    assert metric.p(first, first) == 1.0


def test_samples_are_cut_into_batches_or_given_whole() -> None:
    from peers.contract import parts

    arrays = {"a": np.arange(10).reshape(5, 2), "b": np.arange(5)}
    assert [len(part["b"]) for part in parts(arrays, 2, whole=False)] == [2, 2, 1]
    assert np.array_equal(parts(arrays, 2, whole=True)[3]["a"], arrays["a"][3])


def test_a_simulation_is_named_one_and_a_missing_row_says_why() -> None:
    from peers.tables import table

    rows = _results(
        edgeq_auto=_row(0.8), tool_a=_row(0.8, **{"file kB": None}), tool_b={"unsupported": "has no 3-bit type"},
        tool_c={"failed": "it broke"},
    )  # fmt: skip
    text = table(rows)
    assert "| tool | a | 80.00 (77.52-82.48) |  | simulation | +0.00 (1) |" in text
    assert "- net w4a8, tool b: has no 3-bit type" in text
    assert "- net w4a8, tool c: it broke" in text


def test_rewriting_replaces_what_is_between_the_markers_alone(tmp_path: Path) -> None:
    from peers.tables import _BEGIN, _END, rewrite

    page = tmp_path / "page.md"
    page.write_text(f"before\n{_BEGIN}\nold\n{_END}\nafter\n")
    rewrite(page, "new")
    assert page.read_text() == f"before\n{_BEGIN}\nnew\n{_END}\nafter\n"


def test_the_documentation_holds_the_summary_of_the_results() -> None:
    import json

    from peers.tables import DOCS, summary

    results = json.loads((BENCHMARKS / "results" / "peers.json").read_text(encoding="utf-8"))
    assert summary(results) in DOCS.read_text(encoding="utf-8")


def test_every_peer_has_a_script_and_pinned_requirements() -> None:
    from peers.environments import REQUIREMENTS

    text = (BENCHMARKS / "peers.py").read_text(encoding="utf-8")
    recovery = (BENCHMARKS / "recovery_peers.py").read_text(encoding="utf-8")
    for name, asked in REQUIREMENTS.items():
        assert f'"{name}"' in text + recovery, f"{name}: no benchmark takes it"
        assert "==" in asked[0], f"{name}: the peer itself is pinned"
    scripts = [p.stem for p in (BENCHMARKS / "peers").glob("*.py") if "\n    run(" in p.read_text(encoding="utf-8")]
    assert set(scripts) <= {part for part in text.split('"') if part.isidentifier()}


def test_a_module_that_is_another_model_than_the_file_is_refused(tmp_path: Path) -> None:
    import torch
    from peers.contract import Job, torch_module

    source, weights = tmp_path / "doubled.py", tmp_path / "weights.pt"
    source.write_text("import torch\n\n\ndef build():\n    return torch.nn.Linear(2, 2, bias=False)\n")
    torch.save({"weight": 2 * torch.eye(2)}, weights)
    x = np.ones((3, 2), np.float32)
    np.savez(tmp_path / "samples.npz", x=x)
    np.save(tmp_path / "reference.npy", 2 * x[:2])
    job = Job(
        model="", factory=(str(source), "build", str(weights)), calibration=str(tmp_path / "samples.npz"),
        evaluation="", whole=False, weights=8, activations=8, block=None, ends=False, method="", output="",
        reference=str(tmp_path / "reference.npy"),
    )  # fmt: skip
    assert torch_module(job)(torch.ones(1, 2)).tolist() == [[2, 2]]
    np.save(tmp_path / "reference.npy", x[:2])
    with pytest.raises(ValueError, match=r"doubled\.py: its outputs are 1 from the file's"):
        torch_module(job)
