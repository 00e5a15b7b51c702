"""What the terminal shows: live progress of the stages, and the final table."""

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from edgeq.measurement import Measurement
from edgeq.pipeline import Conversion
from edgeq.release.numbers import value_interval

_SHARES = ("top1", "top5", "agreement")
_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}


class LiveReporter:
    """One line for each finished stage, a bar for the running one; on standard error, plain if that is no terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=self.console, transient=True, disable=not self.console.is_terminal,
        )  # fmt: skip
        self.stage, self.began = "", 0.0

    def __enter__(self) -> "LiveReporter":
        self.progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.progress.stop()

    def start(self, stage: str) -> None:
        """Show a bar for the stage."""
        self._clear()
        self.stage, self.began = stage, time.perf_counter()
        self.progress.add_task(stage, total=None)

    def advance(self, done: int, total: int | None) -> None:
        """Move the bar."""
        if self.progress.task_ids:
            self.progress.update(self.progress.task_ids[-1], completed=done, total=total)

    def finish(self, line: str) -> None:
        """Replace the bar by one line."""
        self._clear()
        seconds = time.perf_counter() - self.began
        self.console.print(f"[bold]{self.stage:<28}[/] {escape(line)} [dim]({seconds:.1f} s)[/]", soft_wrap=True)

    def _clear(self) -> None:
        for task in list(self.progress.task_ids):
            self.progress.remove_task(task)


def print_conversion(result: Conversion, *, verbose: bool) -> None:
    """The table of all devices, the verdict, and what to do if it is not PASS."""
    console = Console(highlight=False)
    console.print(_table(result))
    for measurement in result.release.measurements:
        for note in measurement.notes:
            console.print(f"note ({measurement.device.profile}): {escape(note)}", soft_wrap=True)
    for note in result.release.notes:
        console.print(f"note: {escape(note)}", soft_wrap=True)
    for profile, reason in result.failures.items():
        console.print(f"[red]{profile} could not be used:[/] {escape(reason)}", soft_wrap=True)
    for check in result.judgement.checks:
        if verbose or check.outcome.value != "pass":
            where = f" ({check.device})" if check.device else ""
            colour = _COLOURS[check.outcome.value]
            console.print(
                f"[{colour}]{check.outcome.value}[/] {check.name}{where}: {escape(check.reason)}", soft_wrap=True
            )
    diagnosis = result.release.diagnosis
    if diagnosis is not None:
        console.print(f"[bold]{diagnosis['verdict']}[/]: {escape(diagnosis['cause'])}", soft_wrap=True)
        blamed = ", ".join(str(layer["name"]) for layer in diagnosis["layers"][:3])
        if blamed:
            console.print(f"to blame: {escape(blamed)}", soft_wrap=True)
        console.print(f"try: {escape(diagnosis['remedy'][0])}", soft_wrap=True)
    outcome = result.judgement.outcome
    console.print(
        f"[bold {_COLOURS[outcome.value]}]{outcome.value.upper()}[/] {escape(str(result.folder))}", soft_wrap=True
    )


def _table(result: Conversion) -> Table:
    """One column a device, so that it stays readable in a narrow terminal or a log."""
    release = result.release
    metric = release.measurements[0].deployed.metric
    title = f"{release.model} {release.bits}, {release.evaluation.samples:,} samples, {metric}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for measurement in release.measurements:
        table.add_column(measurement.device.profile, justify="right")
    for label, row in _ROWS:
        table.add_row(label, *(row(measurement) for measurement in release.measurements))
    return table


def _metric(m: Measurement, value: float) -> str:
    return f"{value:.2%}" if m.deployed.metric in _SHARES else f"{value:.4g}"


def _interval(m: Measurement) -> str:
    found = value_interval(m.deployed)
    return "" if found is None else f"{_metric(m, found.low)} to {_metric(m, found.high)}"


def _latency(m: Measurement) -> str:
    return "" if m.latency is None else f"{m.latency.reference.median_ms:.3f} → {m.latency.candidate.median_ms:.3f} ms"


def _ratio(m: Measurement) -> str:
    if m.latency is None:
        return ""
    ratio = m.latency.ratio
    return f"{ratio.estimate:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


_ROWS: tuple[tuple[str, Callable[[Measurement], str]], ...] = (
    ("float on target", lambda m: _metric(m, m.float_on_target.value)),
    ("quantized, simulated", lambda m: _metric(m, m.simulated.value)),
    ("quantized, on target", lambda m: _metric(m, m.deployed.value)),
    ("  95 % interval", _interval),
    ("agreement with float", lambda m: "" if m.agreement is None else f"{m.agreement.estimate:.2%}"),
    ("outputs ≠ simulated", lambda m: f"{m.parity.unequal:,} of {m.parity.compared:,}"),
    ("integer share of MACs", lambda m: f"{m.integer_mac_share:.1%}"),
    ("latency, one sample", _latency),
    ("  quantized / float", _ratio),
    ("size", lambda m: f"{m.float_size_bytes / 1000:,.0f} → {m.size_bytes / 1000:,.0f} kB"),
)
