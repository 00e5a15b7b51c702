"""Pictures of a diagnosis, as SVG: the path, the valley, the blame, and the grid against the basin's width.

Scales are the same in every run, so that two pictures can be laid side by side: altitudes from 10^-4 to 10 nats, paths
from 0 to 2, grid over width from 10^-2 to 10^2. What lies outside is drawn at the edge. The files are the same bytes
for the same diagnosis, and take dark colors on a dark page.
"""

import textwrap
from collections.abc import Sequence
from io import StringIO
from pathlib import Path as FilePath
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from scipy.interpolate import RectBivariateSpline

from edgeq.basin.diagnose import Diagnosis, LayerReading
from edgeq.basin.path import Path
from edgeq.basin.valley import DEPLOYED, FLOAT, Marked, Slice

INK, FAINT, BLUE, ORANGE, GREEN, RED = "#22303c", "#8796a3", "#2b6cb0", "#d97706", "#2f855a", "#c2410c"
VIOLET, BASIN, PAPER, LABEL = "#7c3aed", "#dbeafe", "#fefefe", "#fdfdfd"
#: On a dark page: paper, ink and the basin's tint are turned; data keeps its colors, made lighter where they are dark.
_DARK = {
    PAPER: "#111827", LABEL: "#1f2937", INK: "#e5e7eb", BASIN: "#1e3a5f", BLUE: "#7db4f0", GREEN: "#4ade80",
    RED: "#fb7148", VIOLET: "#c4a7fd",
}  # fmt: skip
LOWEST, HIGHEST = 1e-4, 20.0
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "edgeq",
    "svg.fonttype": "none",
}
_MOST_LAYERS = 40


def draw(diagnosis: Diagnosis, folder: FilePath, valley: Slice | None = None) -> tuple[FilePath, ...]:
    """Write the pictures into a folder, which is made if it is not there.

    Args:
        diagnosis: what to draw.
        folder: where.
        valley: a slice, if one was taken.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with matplotlib.rc_context(_STYLE):
        found = {"path": path_figure(diagnosis)}
        if valley is not None:
            found["valley"] = valley_figure(valley, diagnosis)
        if diagnosis.layers:
            found |= {"blame": blame_figure(diagnosis.layers), "widths": widths_figure(diagnosis.layers)}
        for name, figure in found.items():
            written.append(folder / f"{name}.svg")
            text = StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
            written[-1].write_text(_themed(text.getvalue()), encoding="utf-8")
    return tuple(written)


def _themed(svg: str) -> str:
    """The picture with its colors for dark pages, as a style sheet inside."""
    rules = "".join(
        f'[style*="{part}: {light}"]{{{part}:{dark} !important}}'
        for light, dark in _DARK.items()
        for part in ("fill", "stroke")
    )
    return svg.replace("</style>", f"@media (prefers-color-scheme: dark){{{rules}}}</style>", 1)


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _unit(diagnosis: Diagnosis) -> str:
    if diagnosis.task == "values":
        return "relative squared error"
    return "nats a token" if diagnosis.task == "tokens" else "nats"


def path_figure(diagnosis: Diagnosis) -> Figure:
    """Altitude along the path from the float model, as given and repaired, with the bowl that the curvature
    predicts."""
    figure, axes = _figure(7.2, 4.3)
    best = diagnosis.best
    radius = min(best.t_star, 2.0)
    axes.axvspan(0, radius, color=BASIN, lw=0)
    axes.axvline(radius, color=BLUE, lw=1)
    words = f"basin, to t* = {radius:.2f}" if radius < 2 else "basin"
    # On paper, since the wall's line may pass behind it.
    behind = {"boxstyle": "square,pad=0.15", "fc": BASIN if radius > 1.2 else PAPER, "ec": "none"}
    start = 0.03 if radius > 1.2 else radius + 0.03
    axes.text(start, LOWEST * 1.35, words, color=BLUE, fontsize=9, bbox=behind, zorder=4)
    if best.path.edge < 2:
        axes.axvline(best.path.edge, color=BLUE, lw=1, ls=(0, (4, 3)))
        axes.text(best.path.edge + 0.02, HIGHEST * 0.75, "a wall", color=BLUE, va="top", fontsize=9)
    axes.axhline(best.chance, color=FAINT, lw=1, ls=(0, (1, 2)))
    axes.text(1.98, best.chance * 0.93, "a uniform guess", color=FAINT, fontsize=8.5, ha="right", va="top")
    ts = np.linspace(0.02, 2, 200)
    axes.plot(
        ts,
        np.clip(best.K * ts**2, LOWEST, HIGHEST),
        color=FAINT,
        lw=1.2,
        ls="--",
        label="the bowl that the curvature predicts",
    )
    if diagnosis.repaired is not None:
        _curve(axes, diagnosis.raw.path, FAINT, "as given")
        _curve(axes, diagnosis.repaired.path, ORANGE, "statistics repaired")
    else:
        _curve(axes, diagnosis.raw.path, ORANGE, "as given")
    rounded, trial = diagnosis.rounded, diagnosis.probe
    height = best.D.estimate
    if rounded is not None:
        _step(axes, height, rounded.D, "s", VIOLET, "after better rounding")
        height = min(height, rounded.D)
    if trial is not None:
        _step(axes, height, trial.best, "o", GREEN, f"after {trial.steps[-1]} steps of training")
    words = "deployed" if diagnosis.repaired is None else "deployed, repaired"
    axes.plot([1], [_shown(best.D.estimate)], "D", color=RED, ms=7, label=words, zorder=5)
    axes.set(
        xlim=(0, 2), ylim=(LOWEST, HIGHEST), yscale="log",
        xlabel="t: 0 is the float model, 1 what is deployed",
        ylabel=f"altitude above the float model ({_unit(diagnosis)})",
    )  # fmt: skip
    title = textwrap.fill(f"{diagnosis.verdict.name}: {diagnosis.verdict.cause}", 84)
    axes.set_title(title, loc="left", fontsize=10.5, color=INK)
    axes.legend(loc="lower right", frameon=False, fontsize=8.5)
    return figure


def _step(axes: Any, before: float, after: float, mark: str, color: str, label: str) -> None:
    """What a trial reached, with an arrow from where it began."""
    arrow = {"arrowstyle": "-|>", "color": color, "lw": 1.6, "shrinkB": 4}
    axes.annotate("", (1, _shown(after)), (1, _shown(before)), arrowprops=arrow)
    axes.plot([1], [_shown(after)], mark, color=color, ms=7, mec=PAPER, label=label, zorder=5)


def _curve(axes: Any, path: Path, color: str, label: str) -> None:
    axes.plot(path.ts, [_shown(v) for v in path.phi], "-o", color=color, ms=3.5, lw=1.8, label=label)


def _shown(value: float) -> float:
    return float(np.clip(value, LOWEST, HIGHEST)) if np.isfinite(value) else HIGHEST


def valley_figure(valley: Slice, diagnosis: Diagnosis, tau: float = 0.05) -> Figure:
    """Contours of the altitude in the plane of the float, the deployed and the recovered point."""
    figure, axes = _figure(7.6, 4.8)
    xs, ys, phi = _smooth(valley)
    levels = np.geomspace(1e-3, 10, 25)
    shown = np.clip(phi, 1e-3, 10)
    filled = axes.contourf(xs, ys, shown, levels=levels, norm=LogNorm(1e-3, 10), cmap="YlGnBu_r", extend="both")
    if shown.min() < tau < shown.max():
        axes.contour(xs, ys, shown, levels=[tau], colors="white", linewidths=1.8)
    bar = figure.colorbar(filled, ax=axes, ticks=[1e-3, 1e-2, 1e-1, 1, 10], pad=0.02, shrink=0.9)
    bar.ax.set_yticklabels(["0.001", "0.01", "0.1", "1", "10"])
    bar.set_label(f"altitude above the float model ({_unit(diagnosis)})")
    for mark in valley.marks:
        axes.plot([mark.x], [mark.y], "o", color=_color(mark.name), ms=9, mec=PAPER, mew=1.5, zorder=5)
    for group in _neighbours(valley.marks, 0.06 * float(xs[-1] - xs[0])):
        mark = group[0]
        names = {"deployed": "deployed, repaired"} if diagnosis.repaired is not None else {}
        text = "\n".join(f"{names.get(m.name, m.name)}: {m.phi:.2g}{_off(m)}" for m in group)
        leftwards = mark.x > (xs[0] + xs[-1]) / 2
        axes.annotate(
            text, (mark.x, mark.y), (-8 if leftwards else 8, 10), textcoords="offset points", fontsize=8.5, zorder=6,
            ha="right" if leftwards else "left",
            bbox={"boxstyle": "round,pad=0.25", "fc": LABEL, "ec": "none", "alpha": 0.85},
        )  # fmt: skip
    axes.set(
        xlabel="from the float to the deployed point (1 is their distance)",
        ylabel="perpendicular to it",
        aspect="equal",
    )
    title = f"the valley, weights only; the white line is the basin, {tau} {_unit(diagnosis)} high"
    axes.set_title(title, loc="left", fontsize=10.5)
    return figure


def _color(name: str) -> str:
    """A point's color: as in the path's picture."""
    known = {FLOAT: BLUE, DEPLOYED: RED, "better rounding": VIOLET}
    return known.get(name, GREEN)


def _off(mark: Marked) -> str:
    return f", {mark.off:.1f} off the plane" if mark.off > 0.05 else ""


def _neighbours(marks: Sequence[Marked], near: float) -> list[list[Marked]]:
    """Points that lie so close together that they share a label."""
    groups: list[list[Marked]] = []
    for mark in marks:
        known = next((g for g in groups if np.hypot(g[0].x - mark.x, g[0].y - mark.y) < near), None)
        if known is None:
            groups.append([mark])
        else:
            known.append(mark)
    return groups


def _smooth(valley: Slice, times: int = 6) -> tuple[Any, Any, Any]:
    """The slice on a finer grid: cubic splines of sqrt(phi), nearly straight along every ray from the float point."""
    finite = np.clip(np.nan_to_num(valley.phi, nan=HIGHEST, posinf=HIGHEST), 0, HIGHEST)
    spline = RectBivariateSpline(valley.ys, valley.xs, np.sqrt(finite))
    xs = np.linspace(valley.xs[0], valley.xs[-1], times * len(valley.xs))
    ys = np.linspace(valley.ys[0], valley.ys[-1], times * len(valley.ys))
    return xs, ys, np.square(np.maximum(spline(ys, xs), 0))


def blame_figure(layers: Sequence[LayerReading]) -> Figure:
    """Each layer's share of the climb, worst first."""
    shown = list(layers[:_MOST_LAYERS])
    total = sum(max(layer.blame, 0.0) for layer in layers) or 1.0
    shares = [100 * layer.blame / total for layer in shown]
    figure, axes = _figure(7.2, 1.3 + 0.26 * len(shown))
    before = np.cumsum([0.0, *(max(s, 0.0) for s in shares[:-1])])
    colors = [FAINT if s < 0 else RED if done < 80 else ORANGE for s, done in zip(shares, before, strict=True)]
    positions = range(len(shown))
    axes.barh(positions, shares, color=colors, height=0.7)
    for position, share in zip(positions, shares, strict=True):
        axes.text(max(share, 0) + 0.8, position, f"{round(share)} %", va="center", fontsize=8.5)
    axes.set_yticks(positions, [layer.name for layer in shown])
    axes.invert_yaxis()
    axes.axvline(0, color=FAINT, lw=1)
    axes.set(xlim=(min(-5.0, *shares) - 1, 105), xlabel="share of the climb (%); red: together 80 %")
    rest = f", the first {_MOST_LAYERS} of {len(layers)}" if len(layers) > _MOST_LAYERS else ""
    axes.set_title(f"which layers are to blame{rest}", loc="left", fontsize=10.5)
    return figure


def widths_figure(layers: Sequence[LayerReading]) -> Figure:
    """Grid step over basin width of each layer; beyond 1 it leaves the basin by itself."""
    measured = [layer for layer in layers[:_MOST_LAYERS] if layer.width is not None]
    figure, axes = _figure(7.2, 1.3 + 0.26 * max(len(measured), 1))
    axes.axvspan(1e-2, 1, color=BASIN, lw=0)
    axes.axvline(1, color=BLUE, lw=1)
    for position, layer in enumerate(measured):
        assert layer.width is not None
        ratio = float(np.clip(layer.width.grid_over_width, 1e-2, 1e2))
        color = RED if ratio > 1 else GREEN
        axes.plot([1e-2, ratio], [position, position], color=FAINT, lw=0.8, zorder=1)
        axes.plot([ratio], [position], "o", color=color, ms=6, zorder=3)
        safe = layer.width.safe_bits
        text = f"{layer.bits} bits, safe: {safe or 'over 8'}"
        axes.text(80, position, text, va="center", ha="right", fontsize=8.5)
    axes.set_yticks(range(len(measured)), [layer.name for layer in measured])
    axes.invert_yaxis()
    axes.set(xscale="log", xlim=(1e-2, 1e2), xlabel="grid step / basin width of the layer alone")
    axes.set_title("grid against basin, by layer: left of 1 the layer alone stays inside", loc="left", fontsize=10.5)
    return figure
