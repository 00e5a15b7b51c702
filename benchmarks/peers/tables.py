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
    """One line a cell: ours, the best of ours and the best peer, and who is ahead; then a count of the verdicts."""
    head = "| model | bits | float | edgeq auto | CPU s | best other edgeq method | best peer | CPU s "
    lines = [f"{head}| peer - auto (p) | auto is |", "|" + "---|" * 10]
    behind, total = [], 0
    for model, bits, rows in cells(results):
        count = results[model]["images"]
        ours = {method: row for (peer, method), row in rows.items() if peer == _OURS and "top1" in row}
        others = {key: row for key, row in rows.items() if key[0] != _OURS and "top1" in row}
        if _REFERENCE not in ours or not others:
            continue
        auto = ours[_REFERENCE]
        best = max((m for m in ours if m != _REFERENCE), key=lambda m: ours[m]["top1"], default=None)
        other = "" if best is None else f"{best} {ours[best]['top1'] * 100:.2f}"
        peer = max(others, key=lambda key: others[key]["top1"])
        p = mcnemar(unpacked(others[peer]["right"], count), unpacked(auto["right"], count))
        ahead = others[peer]["top1"] - auto["top1"]
        verdict = "level" if p > _LEVEL else "ahead" if ahead < 0 else "**behind**"
        behind += [f"{model} {bits} ({' '.join(peer)}, {ahead * 100:+.2f})"] if verdict == "**behind**" else []
        total += 1
        name = f"{' '.join(peer)}{'' if others[peer]['file kB'] is not None else ' (simulation)'}"
        lines.append(
            f"| {model} | {bits} | {results[model]['float'] * 100:.2f} "
            f"| {auto['top1'] * 100:.2f} | {auto['seconds']:.1f} | {other} "
            f"| {name} {others[peer]['top1'] * 100:.2f} | {others[peer]['seconds']:.1f} "
            f"| {ahead * 100:+.2f} ({p:.2g}) | {verdict} |"
        )
    told = f"In {len(behind)} of {total} cells a peer is ahead of `auto` by more than chance: {'; '.join(behind)}."
    return "\n".join([*lines, "", told if behind else f"In none of {total} cells is a peer ahead by more than chance."])


def rewrite(path: Path, content: str) -> None:
    """Put the content between the markers of a file."""
    text = path.read_text(encoding="utf-8")
    if _BEGIN not in text:
        return
    before, rest = text.split(_BEGIN)
    after = rest.split(_END)[1]
    path.write_text(f"{before}{_BEGIN}\n{content}\n{_END}{after}", encoding="utf-8")
