"""Two releases side by side: the numbers of each device, the options and the files that changed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeq.measurement import Measurement
from edgeq.release.checks.accuracy import agreeing
from edgeq.release.checks.comparison import is_decision
from edgeq.release.checks.resources import speed
from edgeq.release.outcome import Judgement
from edgeq.release.release import Release
from edgeq.release.show import show


@dataclass(frozen=True)
class Row:
    """One line: what it is, the other release's, this one's, and the change in words."""

    name: str
    other: str
    this: str
    change: str


@dataclass(frozen=True)
class SideBySide:
    """The comparison: names of both releases, one group of rows for each device, and what changed in the making."""

    other: str
    this: str
    groups: tuple[tuple[str, tuple[Row, ...]], ...]


def side_by_side(this: tuple[Release, Judgement], other: tuple[Release, Judgement]) -> SideBySide:
    """Compare a release with another one, device by device."""
    new, old = this[0], other[0]
    groups: list[tuple[str, tuple[Row, ...]]] = [
        ("Verdict", (Row("outcome", other[1].outcome.upper(), this[1].outcome.upper(), ""),))
    ]
    profiles = dict.fromkeys(m.device.profile for m in (*new.measurements, *old.measurements))
    for profile in profiles:
        groups.append((profile, _device_rows(old.measurement(profile), new.measurement(profile))))
    groups.append(("How it was made", tuple(_making(old, new))))
    return SideBySide(f"{old.model} {old.bits}", f"{new.model} {new.bits}", tuple(groups))


def _device_rows(old: Measurement | None, new: Measurement | None) -> tuple[Row, ...]:
    before, now = _numbers(old), _numbers(new)
    return tuple(
        Row(
            name,
            show(before.get(name), unit),
            show(now.get(name), unit),
            _change(before.get(name), now.get(name), unit),
        )
        for name, unit in _units(new or old)
        if name in before or name in now
    )


def _units(measurement: Measurement | None) -> tuple[tuple[str, str], ...]:
    decisions = measurement is not None and is_decision(measurement.deployed.scores)
    metric = "metric" if decisions else "score"
    return (
        ("float on target", metric),
        ("deployed", metric),
        ("agreement with float", "share"),
        ("speed over float", "ratio"),
        ("median latency", "ms"),
        ("size", "bytes"),
        ("MACs in integer kernels", "percentage"),
    )


def _numbers(measurement: Measurement | None) -> dict[str, float]:
    if measurement is None:
        return {}
    numbers = {"size": float(measurement.size_bytes), "MACs in integer kernels": measurement.integer_mac_share}
    for name, evaluation in (("float on target", measurement.float_on_target), ("deployed", measurement.deployed)):
        if evaluation.scores.size:
            numbers[name] = evaluation.value
    counts, faster = agreeing(measurement), speed(measurement)
    if counts is not None:
        numbers["agreement with float"] = counts[0] / counts[1]
    if faster is not None:
        numbers["speed over float"] = faster.estimate
    if measurement.latency is not None:
        numbers["median latency"] = measurement.latency.candidate.median_ms
    return numbers


def _change(before: float | None, now: float | None, unit: str) -> str:
    if before is None or now is None:
        return "only in one"
    if before == now:
        return "same"
    if unit in ("metric", "share", "percentage"):
        return ("+" if now > before else "\N{MINUS SIGN}") + show(abs(now - before), "points")
    return f"{now / before - 1:+.1%}".replace("-", "\N{MINUS SIGN}") if before else f"{now - before:+.4g}"


def _making(old: Release, new: Release) -> list[Row]:
    rows = []
    for title, before, now in (
        ("option", flat(old.options), flat(new.options)),
        ("version of", old.versions, new.versions),
        ("file", {a.name: a.sha256[:12] for a in old.artifacts}, {a.name: a.sha256[:12] for a in new.artifacts}),
    ):
        for name in sorted({*before, *now}):
            first, second = (_told(part.get(name)) if name in part else "—" for part in (before, now))
            if first != second:
                rows.append(Row(f"{title} {name}", first, second, "changed"))
    return rows or [Row("options, versions and files", "", "", "same")]


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options by their full name, without those that are not set."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        elif value is not None and value not in ([], ()):
            found[f"{prefix}{name}"] = value
    return found


def _told(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
