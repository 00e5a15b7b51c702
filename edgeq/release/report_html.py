"""report.html: one self-contained page, without network, for a release or for two side by side.

Everything shown comes from the release and its judgement. Names are untrusted: templates escape all they print, charts
are written by an XML writer, pictures are images that cannot run scripts, and the page's own policy
(Content-Security-Policy with the hashes of its one style and one script) refuses whatever else could slip in.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2
from markupsafe import Markup

from edgeq.measurement import Evaluation, Interval, Measurement
from edgeq.release import charts
from edgeq.release.checks.accuracy import agreeing
from edgeq.release.checks.comparison import is_decision
from edgeq.release.checks.resources import speed
from edgeq.release.layer_table import layer_table
from edgeq.release.numbers import drop_of, value_interval
from edgeq.release.outcome import Judgement, Outcome
from edgeq.release.release import Picture, Release
from edgeq.release.show import count, show, show_interval
from edgeq.release.side_by_side import flat, side_by_side

_DISTINCT_STEPS = 12


def report_html(
    release: Release, judgement: Judgement, *, against: tuple[Release, Judgement] | None = None, title: str = ""
) -> str:
    """The page as text.

    Args:
        release: what to show.
        judgement: the gate's answer.
        against: another release, shown side by side.
        title: of the browser's tab; the model's name if empty.
    """
    style, script = (_asset(name) for name in ("report.css", "report.js"))
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title or f"{release.model} {release.bits}: {judgement.outcome.value}",
            policy=f"default-src 'none'; img-src data:; style-src {_digest(style)}; script-src {_digest(script)}",
            style=Markup(style),
            script=Markup(script),
            release=release,
            judgement=judgement,
            verdict=_VERDICTS[judgement.outcome],
            troubles=[
                c for outcome in (Outcome.FAIL, Outcome.INCONCLUSIVE) for c in judgement.checks if c.outcome is outcome
            ],
            devices=[_device(measurement) for measurement in release.measurements],
            layers=layer_table(release),
            diagnosis=_diagnosis(release.diagnosis),
            pictures=[(picture, _image(picture)) for picture in release.pictures],
            recovery_chart=_recovery_chart(release),
            op_times=release.op_times,
            other=None if against is None else side_by_side((release, judgement), against),
            options=[(name, _told(value)) for name, value in sorted(flat(release.options).items())],
        )
    )


@dataclass(frozen=True)
class _Tile:
    """One number under a device's heading."""

    label: str
    value: str
    detail: str


@dataclass(frozen=True, eq=False)
class _Device:
    """One device as the page shows it."""

    measurement: Measurement
    metric: str
    numbers: tuple[tuple[str, str, str, str], ...]
    drop: str
    drop_detail: str
    chart: Markup
    tiles: tuple[_Tile, ...]
    parity_chart: Markup
    parity_rows: tuple[tuple[str, str], ...]
    latency_chart: Markup


_VERDICTS = {Outcome.PASS: ("✓", "PASS"), Outcome.FAIL: ("✕", "FAIL"), Outcome.INCONCLUSIVE: ("?", "INCONCLUSIVE")}


def _device(measurement: Measurement) -> _Device:
    unit = "metric" if is_decision(measurement.deployed.scores) else "score"
    marks = [
        _mark(name, kind, evaluation)
        for name, kind, evaluation in (
            ("Float on target", "float", measurement.float_on_target),
            ("Simulated", "simulated", measurement.simulated),
            ("Deployed", "deployed", measurement.deployed),
        )
    ]
    drop, drop_unit = drop_of(measurement), "points" if unit == "metric" else "score"
    metric = measurement.deployed.metric
    return _Device(
        measurement=measurement,
        metric=metric,
        numbers=tuple((m.label, m.kind, show(m.value, unit), show_interval(m.low, m.high, unit)) for m in marks),
        drop="not known" if drop is None else show(drop.estimate, drop_unit),
        drop_detail="" if drop is None else f"90 % interval {show_interval(drop.low, drop.high, drop_unit)}",
        chart=charts.interval_chart(
            marks, unit, f"{metric} of the float, simulated and deployed model with 95 % intervals"
        ),
        tiles=tuple(_tiles(measurement)),
        parity_chart=_parity_chart(measurement),
        parity_rows=tuple((show(steps, "steps"), count(number)) for steps, number in _histogram(measurement)),
        latency_chart=_latency_chart(measurement),
    )


def _mark(name: str, kind: str, evaluation: Evaluation) -> charts.Mark:
    found = value_interval(evaluation)
    if found is None:
        return charts.Mark(name, None, kind)
    return charts.Mark(name, found.estimate, kind, found.low, found.high)


def _tiles(measurement: Measurement) -> list[_Tile]:
    counts, faster = agreeing(measurement), speed(measurement)
    smaller = measurement.float_size_bytes / measurement.size_bytes if measurement.size_bytes else None
    tiles = []
    if counts is not None:
        tiles.append(_Tile("same decision as float", show(counts[0] / counts[1], "share"), f"of {count(counts[1])}"))
    if faster is not None:
        tiles.append(_Tile("speed over float", show(faster.estimate, "ratio"), _range(faster)))
    else:
        tiles.append(_Tile("speed over float", "—", "not measured"))
    size = f"{show(measurement.float_size_bytes, 'bytes')} in float"
    tiles.append(_Tile("file size", show(measurement.size_bytes, "bytes"), f"{size}, {show(smaller, 'ratio')} smaller"))
    tiles.append(_Tile("MACs in integer kernels", show(measurement.integer_mac_share, "percentage"), ""))
    return tiles


def _range(interval: Interval) -> str:
    return f"{show_interval(interval.low, interval.high, 'ratio')}, {show(interval.level, 'share')} interval"


def _histogram(measurement: Measurement) -> list[tuple[int, int]]:
    return [(steps, number) for steps, number in sorted(measurement.parity.histogram.items()) if number]


def _parity_chart(measurement: Measurement) -> Markup:
    rows = _histogram(measurement)
    marks = [
        charts.Mark("equal" if steps == 0 else show(steps, "steps"), number, "equal" if steps == 0 else "unequal")
        for steps, number in rows[:_DISTINCT_STEPS]
    ]
    rest = sum(number for _, number in rows[_DISTINCT_STEPS:])
    if rest:
        marks.append(charts.Mark("more", rest, "unequal"))
    title = "How many output numbers differ from the simulation by how many steps, on a logarithmic scale"
    return charts.bar_chart(marks, "count", title, logarithmic=True)


def _latency_chart(measurement: Measurement) -> Markup:
    latency = measurement.latency
    if latency is None:
        return Markup("")
    marks = [
        charts.Mark("Float median", latency.reference.median_ms, "float"),
        charts.Mark("Float 90 %", latency.reference.p90_ms, "float light"),
        charts.Mark("Deployed median", latency.candidate.median_ms, "deployed"),
        charts.Mark("Deployed 90 %", latency.candidate.p90_ms, "deployed light"),
    ]
    return charts.bar_chart(marks, "ms", "Time of one inference of the float and the deployed model")


def _diagnosis(diagnosis: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The numbers that `edgeq diagnose` promises, those that are there, and the path as a chart."""
    if diagnosis is None:
        return None
    repaired = diagnosis.get("repaired")
    rows = [
        (
            name,
            meaning,
            _plain(diagnosis.get(name)),
            _plain(repaired.get(name)) if isinstance(repaired, Mapping) else "",
        )
        for name, meaning in _QUANTITIES
        if name in diagnosis
    ]
    remedy, path = diagnosis.get("remedy"), diagnosis.get("path")
    return {
        "verdict": str(diagnosis.get("verdict", "not known")),
        "cause": str(diagnosis.get("cause", "")),
        "remedies": [remedy] if isinstance(remedy, str) else [str(command) for command in remedy or ()],
        "rows": rows,
        "repaired": isinstance(repaired, Mapping),
        "path": _path_chart(path) if isinstance(path, Mapping) else Markup(""),
    }


_QUANTITIES = (
    ("D", "height of the deployed point above the float model"),
    ("A", "share of decisions that change"),
    ("K", "what the second-order model at the float weights predicts for D"),
    ("R", "D over K: about 1 is a quadratic bowl, well above 1 a wall was crossed"),
    ("I", "inward slope at the deployed point: positive leads back to the basin"),
    ("p", "wall exponent: 2 is a bowl, above 2 a wall"),
    ("t_star", "basin radius in units of the quantization error"),
)


def _path_chart(path: Mapping[str, Any]) -> Markup:
    points = [
        (float(t), float(phi)) for t, phi in zip(_numbers(path.get("t")), _numbers(path.get("phi")), strict=False)
    ]
    if points and points[0][0] > 0:
        points = [(0.0, 0.0), *points]
    return charts.line_chart(
        [charts.Series("altitude", "deployed", tuple(points))],
        "t: 0 is float, 1 is deployed",
        "altitude",
        "Altitude along the path from the float model to the deployed one and beyond",
        mark_x=1.0,
    )


def _numbers(values: Any) -> Sequence[float]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return ()
    return [value for value in values if isinstance(value, int | float)]


def _recovery_chart(release: Release) -> Markup:
    if release.recovery is None:
        return Markup("")
    points = tuple((float(point.step), point.loss) for point in release.recovery.points)
    title = "Loss on held-out samples during recovery"
    return charts.line_chart([charts.Series("held out", "deployed", points)], "step", "held-out loss", title)


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "—" if value is None else str(value)
    return show(float(value), "score") if isinstance(value, int | float) else str(value)


def _told(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _image(picture: Picture) -> str:
    """The picture as a data URL: inside an image nothing runs and nothing is loaded."""
    return "data:image/svg+xml;base64," + base64.b64encode(picture.svg.encode()).decode()


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    source, _, _ = jinja2.PackageLoader("edgeq.release").get_source(_environment(), name)
    return source.strip()


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("edgeq.release"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"show": show, "count": count}
    return environment
