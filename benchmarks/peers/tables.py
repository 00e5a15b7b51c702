"""The tables of ``benchmarks/peers.py``: all rows, and the summary in docs/benchmarks.md between two markers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from top1 import interval, mcnemar, unpacked

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- peers: written by benchmarks/peers.py -->", "<!-- peers: end -->"
_OURS = "edgeq"
_REFERENCE = "auto"
#: Below it a difference is called one.
_LEVEL = 0.05

Row = dict[str, Any]


def cells(results: dict[str, Any]) -> Iterator[tuple[str, str, dict[tuple[str, str], Row]]]:
    """(model, bits, (peer, method) -> row) of all that was measured, in a fixed order."""
    for model in sorted(key for key, value in results.items() if isinstance(value, dict) and "rows" in value):
        found: dict[str, dict[tuple[str, str], Row]] = {}
        for key, row in results[model]["rows"].items():
            bits, peer, method = key.split("|")
            found.setdefault(bits, {})[peer, method] = row
        for bits in sorted(found, key=lambda text: ("fl8" in text, [-int(c) for c in text if c.isdigit()][:2])):
            yield model, bits, found[bits]


def table(results: dict[str, Any]) -> str:
    """Every row, and below it why rows are missing."""
    head = "| model | bits | tool | method | top-1 % (95 % interval) | judged | against edgeq auto (p) | CPU s "
    lines = [f"{head}| peak MB (before) | file kB |", "|" + "---|" * 10]
    missing = []
    model_before = ""
    for model, bits, rows in cells(results):
        count = results[model]["images"]
        if model != model_before:
            told = f"{interval(results[model]['float'], count)} | {count} images"
            lines.append(f"| {model} | float | | | {told} | | | | |")
            model_before = model
        reference = rows.get((_OURS, _REFERENCE))
        for (peer, method), row in sorted(
            rows.items(), key=lambda item: (item[0][0] != _OURS, -item[1].get("top1", 0))
        ):
            if "top1" not in row:
                reason = row.get("unsupported") or row["failed"]
                missing.append(f"- {model} {bits}, {peer} {method}: {reason}")
                continue
            judged = "file" if row["file kB"] is not None else "simulation"
            size = f"{row['file kB']:.0f}" if row["file kB"] is not None else ""
            name = f"{method} ({row['note']})" if row["note"] else method
            cost = f"{row['seconds']:.1f} | {row['peak']:.0f} ({row['base']:.0f}) | {size}"
            lines.append(
                f"| {model} | {bits} | {peer} | {name} | {interval(row['top1'], count)} | {judged} "
                f"| {_difference(row, reference, count)} | {cost} |"
            )
    why = ["", "Rows that there are not, and why:", "", *missing] if missing else []
    return "\n".join([*lines, *why]) + "\n"


def _difference(row: Row, reference: Row | None, count: int) -> str:
    if reference is None or "top1" not in reference or row is reference:
        return ""
    p = mcnemar(unpacked(row["right"], count), unpacked(reference["right"], count))
    return f"{(row['top1'] - reference['top1']) * 100:+.2f} ({p:.2g})"


def summary(results: dict[str, Any]) -> str:
    """One line a cell: ours, the best of ours, the best peer, who is ahead; then where `auto` is not the best."""
    head = "| model | bits | float | edgeq auto | CPU s | best other edgeq method | best peer | CPU s "
    lines = [f"{head}| peer - auto (p) | auto is |", "|" + "---|" * 10]
    behind, left, slower, total = [], [], [], 0
    for model, bits, rows in cells(results):
        count = results[model]["images"]
        ours = {method: row for (peer, method), row in rows.items() if peer == _OURS and "top1" in row}
        others = {" ".join(key): row for key, row in rows.items() if key[0] != _OURS and "top1" in row}
        if _REFERENCE not in ours or not others:
            continue
        auto, total = ours.pop(_REFERENCE), total + 1
        best, other = _best(others), _best(ours)
        behind += _told(model, bits, best, others, auto, count)
        left += _told(model, bits, other, ours, auto, count)
        level = [name for name, row in others.items() if _verdict(row, auto, count) != "ahead"]
        fastest = min(level, key=lambda name: others[name]["seconds"], default="")
        if fastest and others[fastest]["seconds"] < auto["seconds"]:
            slower.append(f"{model} {bits} ({fastest}, {others[fastest]['seconds']:.1f} s)")
        name = f"{best}{'' if others[best]['file kB'] is not None else ' (simulation)'}"
        lines.append(
            f"| {model} | {bits} | {results[model]['float'] * 100:.2f} "
            f"| {auto['top1'] * 100:.2f} | {auto['seconds']:.1f} "
            f"| {_named(other, ours)} "
            f"| {name} {others[best]['top1'] * 100:.2f} | {others[best]['seconds']:.1f} "
            f"| {_difference(others[best], auto, count)} | {_verdict(others[best], auto, count)} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            _counted("a peer is ahead of `auto` by more than chance", behind, total),
            _counted("another method of ours is ahead of `auto` by more than chance", left, total),
            _counted("a peer that `auto` is not ahead of needs fewer CPU seconds", slower, total),
        ]
    )


def _named(name: str, rows: dict[str, Row]) -> str:
    return f"{name} {rows[name]['top1'] * 100:.2f}" if name else ""


def _best(rows: dict[str, Row]) -> str:
    return max(rows, key=lambda name: rows[name]["top1"], default="")


def _verdict(row: Row, auto: Row, count: int) -> str:
    """What `auto` is against a row."""
    p = mcnemar(unpacked(row["right"], count), unpacked(auto["right"], count))
    return "level" if p > _LEVEL else "ahead" if row["top1"] < auto["top1"] else "**behind**"


def _told(model: str, bits: str, name: str, rows: dict[str, Row], auto: Row, count: int) -> list[str]:
    if not name or _verdict(rows[name], auto, count) != "**behind**":
        return []
    return [f"{model} {bits} ({name}, {(rows[name]['top1'] - auto['top1']) * 100:+.2f})"]


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
