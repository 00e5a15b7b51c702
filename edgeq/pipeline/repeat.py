"""The command that repeats a run: every option that is not the default, file names instead of paths."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.pipeline.options import Options
from edgeq.plan.bits import FLOAT


def command(options: Options) -> str:
    """``edgeq convert`` as a shell takes it. Budgets other than --max-drop are edgeq.toml's and change no file."""
    return shlex.join(["edgeq", "convert", _name(options.model), *_flags(options)])


def _flags(options: Options) -> Iterator[str]:
    """Flags and values; what says itself what shapes the files (bits, samples, seed) is always there."""
    default = Options(model="", data="", output=Path())
    yield from ("--data", _name(options.data))
    for flag, file in (("--eval", options.evaluation), ("--weights", options.weights)):
        if file is not None:
            yield from (flag, _name(str(file)))
    for device in options.devices:
        yield from ("--device", _name(device))
    yield from ("--bits", options.number_format)
    for pattern, bits in options.overrides:
        yield from ("--float", pattern) if bits == FLOAT else ("--bits-for", f"{pattern}={bits}")
    for position, shape in enumerate(options.input_shapes):
        kinds = options.input_types[position : position + 1]
        yield from ("--input-shape", f"{_listed(shape)}{''.join(f':{kind}' for kind in kinds if kind != 'float32')}")
    for name, shape in options.shapes.items():
        yield from ("--shape", f"{name}={_listed(shape)}")
    for name, number in options.constants.items():
        yield from ("--fix", f"{name}={number}")
    yield from _images(options)
    yield from ("--samples", str(options.samples))
    for flag, field in _SINGLE:
        value: Any = getattr(options, field)
        if value != getattr(default, field):
            yield from (flag, str(value))
    if options.diagnose is not None:
        yield "--diagnose" if options.diagnose else "--no-diagnose"
    if options.budgets.accuracy_drop not in (None, default.budgets.accuracy_drop):
        yield from ("--max-drop", str(options.budgets.accuracy_drop))
    yield from ("--seed", str(options.seed))


_SINGLE = (
    ("--max-size", "max_size"),
    ("--eval-samples", "evaluation_samples"),
    ("--observer", "observer"),
    ("--method", "method"),
    ("--recover-budget", "recover_budget"),
    ("--metric", "metric"),
    ("--io", "io"),
    ("--input-layout", "input_layout"),
    ("--latency-runs", "latency_runs"),
)


def _images(options: Options) -> Iterator[str]:
    chosen = options.preprocessing
    if chosen is None:
        return
    for flag, size in (("--resize", chosen.resize), ("--crop", chosen.crop)):
        if size is not None:
            yield from (flag, str(size[0] if isinstance(size, tuple) else size))
    for flag, numbers in (("--mean", chosen.mean), ("--std", chosen.std)):
        yield from (flag, _listed(numbers))
    if chosen.layout is not None:
        yield from ("--layout", chosen.layout)


def _name(given: str) -> str:
    """A file's name without its folder; a module:callable as it is."""
    return given if ":" in given and not Path(given).suffix else Path(given).name


def _listed(numbers: tuple[float, ...] | tuple[int, ...]) -> str:
    return ",".join(str(number) for number in numbers)
