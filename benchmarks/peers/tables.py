"""The tables of ``benchmarks/peers.py``: all rows, and the summary in docs/benchmarks.md between two markers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scipy import stats

from peers.metrics import METRICS, Metric

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- peers: written by benchmarks/peers.py -->", "<!-- peers: end -->"
_OURS = "edgeq"
#: What the others are compared with; the second where activations are quantized on the way.
_REFERENCES = ("auto", "dynamic")
#: Below it a difference is called one.
_LEVEL = 0.05

Row = dict[str, Any]


def cells(results: dict[str, Any]) -> Iterator[tuple[str, str, dict[tuple[str, str], Row]]]:
    """(model, bits, (peer, method) -> row) of all that was measured, in a fixed order."""
    for model in sorted(key for key, value in results.items() if isinstance(value, dict) and "rows" in value):
        found: dict[str, dict[tuple[str, str], Row]] = {}
        for key, row in results[model]["rows"].items():
            bits, peer, method = key.split("|")
            found.setdefault(_format(bits, peer, method), {})[peer, method] = row
        for bits in sorted(
            found, key=lambda text: ("a" not in text, "fl8" in text, [-int(c) for c in text if c.isdigit()][:2])
        ):
            yield model, bits, found[bits]


def _format(bits: str, peer: str, method: str) -> str:
    """The cell of a row: activations that get a new scale for each input or token are a format of their own."""
    dynamic = method == "dynamic" or (peer == "torchao linear" and "a" in bits)
    return f"{bits} dynamic" if dynamic else bits


def _reference(rows: dict[tuple[str, str], Row]) -> Row | None:
    ours = (rows.get((_OURS, method)) for method in _REFERENCES)
    return next((row for row in ours if row is not None and "score" in row), None)


def table(results: dict[str, Any]) -> str:
    """Every row, and below it why rows are missing."""
    head = "| model | bits | tool | method | score (95 % interval) | decided as float % | judged "
    lines = [f"{head}| against edgeq auto (p) | CPU s | peak MB (before) | file kB |", "|" + "---|" * 11]
    missing = []
    model_before = ""
    for model, bits, rows in cells(results):
        metric, count = METRICS[results[model]["metric"]], results[model]["tested"]
        if model != model_before:
            told = f"{metric.interval(metric.unpacked(results[model]['each'], count))} | {count} samples"
            lines.append(f"| {model} | float | | {metric.name} | {told} | | | | | |")
            model_before = model
        reference = _reference(rows)
        sign = 1 if metric.less else -1
        for (peer, method), row in sorted(
            rows.items(), key=lambda item: (item[0][0] != _OURS, sign * item[1].get("score", 0))
        ):
            if "score" not in row:
                reason = row.get("unsupported") or row["failed"]
                missing.append(f"- {model} {bits}, {peer} {method}: {reason}")
                continue
            judged = "file" if row["file kB"] is not None else "simulation"
            size = f"{row['file kB']:.0f}" if row["file kB"] is not None else ""
            name = f"{method} ({row['note']})" if row["note"] else method
            cost = f"{row['seconds']:.1f} | {row['peak']:.0f} ({row['base']:.0f}) | {size}"
            same = f"{row['as float'] * 100:.2f}" if "as float" in row else ""
            lines.append(
                f"| {model} | {bits} | {peer} | {name} | {_interval(metric, row, count)} | {same} | {judged} "
                f"| {_difference(metric, row, reference, count)} | {cost} |"
            )
    why = ["", "Rows that there are not, and why:", "", *missing] if missing else []
    return "\n".join([*lines, *why]) + "\n"


def _interval(metric: Metric, row: Row, count: int) -> str:
    return metric.interval(metric.unpacked(row["each"], count))


def _p(metric: Metric, row: Row, auto: Row, count: int) -> float:
    return metric.p(metric.unpacked(row["each"], count), metric.unpacked(auto["each"], count))


def _difference(metric: Metric, row: Row, reference: Row | None, count: int) -> str:
    if reference is None or row is reference:
        return ""
    p = _p(metric, row, reference, count)
    return f"{metric.difference(row['score'] - reference['score'])} ({p:.2g})"


def summary(results: dict[str, Any]) -> str:
    """One line a cell: ours, the best of ours, the best peer, who is ahead; then where `auto` is not the best."""
    head = "| model | bits | float | edgeq auto | CPU s | MB | best other edgeq method | best peer | CPU s | MB "
    lines = [f"{head}| peer - auto (p) | auto is |", "|" + "---|" * 12]
    told: dict[str, list[str]] = {"ahead": [], "level": [], "**behind**": []}
    behind, left, slower = [], [], []
    chances: dict[str, float] = {}
    for model, bits, rows in cells(results):
        metric, count = METRICS[results[model]["metric"]], results[model]["tested"]
        ours = {method: row for (peer, method), row in rows.items() if peer == _OURS and "score" in row}
        others = {" ".join(key): row for key, row in rows.items() if key[0] != _OURS and "score" in row}
        auto = _reference(rows)
        if auto is None or not others:
            continue
        ours = {method: row for method, row in ours.items() if row is not auto}
        best, other = _best(metric, others), _best(metric, ours)
        told[_verdict(metric, others[best], auto, count)].append(f"{model} {bits}")
        chances[f"{model} {bits}"] = _p(metric, others[best], auto, count)
        behind += _told(metric, f"{model} {bits} ({best}", others[best], auto, count)
        left += _told(metric, f"{model} {bits} ({other}", ours[other], auto, count) if other else []
        level = [name for name, row in others.items() if _as_good(metric, row, auto, count)]
        fastest = min(level, key=lambda name: others[name]["seconds"], default="")
        if fastest and others[fastest]["seconds"] < auto["seconds"]:
            own = {name: row["seconds"] for name, row in ours.items() if _as_good(metric, row, others[fastest], count)}
            quick = min(own, key=own.__getitem__, default="")
            also = f"; our {quick}, as good as that, {own[quick]:.1f} s" if quick else ""
            slower.append(f"{model} {bits} ({fastest}, {others[fastest]['seconds']:.1f} s{also})")
        name = f"{best}{'' if others[best]['file kB'] is not None else ' (simulation)'}"
        lines.append(
            f"| {model} | {bits} | {metric.number(results[model]['float'])} "
            f"| {metric.number(auto['score'])} | {auto['seconds']:.1f} | {auto['peak']:.0f} "
            f"| {_named(metric, other, ours)} "
            f"| {name} {metric.number(others[best]['score'])} | {others[best]['seconds']:.1f} "
            f"| {others[best]['peak']:.0f} | {_difference(metric, others[best], auto, count)} "
            f"| {_verdict(metric, others[best], auto, count)} |"
        )
    total = sum(map(len, told.values()))
    return "\n".join(
        [
            *lines,
            "",
            f"Of {total} cells `auto` is ahead of the best peer in {len(told['ahead'])}, level with it in "
            f"{len(told['level'])}, behind it in {len(told['**behind**'])}. {_corrected(told, chances)}",
            _counted("a peer is ahead of `auto` by more than chance", behind, total),
            _counted("another method of ours is ahead of `auto` by more than chance", left, total),
            _counted(
                "a peer that `auto` is not ahead of, in decisions as float either, needs fewer CPU s", slower, total
            ),
        ]
    )


def _corrected(told: dict[str, list[str]], chances: dict[str, float]) -> str:
    """The same after Holm's correction (Scandinavian Journal of Statistics 1979), for many cells are compared."""
    found: set[str] = set()
    for rank, cell in enumerate(sorted(chances, key=chances.__getitem__)):
        if chances[cell] > _LEVEL / (len(chances) - rank):
            break
        found.add(cell)
    ahead, behind = (len(found.intersection(told[kind])) for kind in ("ahead", "**behind**"))
    return f"After Holm's correction for so many comparisons: ahead in {ahead}, behind in {behind}."


def _named(metric: Metric, name: str, rows: dict[str, Row]) -> str:
    return f"{name} {metric.number(rows[name]['score'])}" if name else ""


def _best(metric: Metric, rows: dict[str, Row]) -> str:
    return min(rows, key=lambda name: rows[name]["score"] * (1 if metric.less else -1), default="")


def _verdict(metric: Metric, row: Row, auto: Row, count: int) -> str:
    """What `auto` is against a row."""
    if _p(metric, row, auto, count) > _LEVEL:
        return "level"
    return "**behind**" if metric.better(row["score"], auto["score"]) else "ahead"


def _as_good(metric: Metric, row: Row, auto: Row, count: int) -> bool:
    """Whether a row is not shown to be worse than `auto`: by its score, or by how often it decides as the float model.

    The latter tells more of a classifier: where scores differ by chance, other decisions are still worse.
    """
    if _verdict(metric, row, auto, count) == "ahead":
        return False
    if "as float" not in row or "as float" not in auto:
        return True
    same = [round(each["as float"] * count) for each in (row, auto)]
    p = stats.fisher_exact([[each, count - each] for each in same]).pvalue
    return bool(same[0] >= same[1] or p > _LEVEL)


def _told(metric: Metric, cell: str, row: Row, auto: Row, count: int) -> list[str]:
    if _verdict(metric, row, auto, count) != "**behind**":
        return []
    return [f"{cell}, {metric.difference(row['score'] - auto['score'])})"]


def _counted(what: str, found: list[str], total: int) -> str:
    return (
        f"In {len(found)} of {total} cells {what}: {'; '.join(found)}."
        if found
        else f"In none of {total} cells {what}."
    )


def rewrite(path: Path, content: str) -> None:
    """Put the content between the markers of a file."""
    text = path.read_text(encoding="utf-8")
    if _BEGIN not in text:
        return
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    path.write_text(f"{before}{_BEGIN}\n{content}\n{_END}{after}", encoding="utf-8")
