"""The command line as a user has it: its exit code, its two streams, and what it leaves in a folder."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeq.cli import main

from . import models


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture
def edgeq(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Run the command line in this process."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return Result(exit_.value.code, streams.out, streams.err)

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


@dataclass(frozen=True)
class Project:
    """A user's folder: a model, samples to calibrate with, samples to evaluate on."""

    folder: Path
    model: Path
    data: Path
    evaluation: Path

    @property
    def output(self) -> Path:
        return self.folder / "out" / "release"

    def arguments(self, **changed: object) -> list[object]:
        """``convert`` with this project's files, quick and quiet."""
        given = {"model": self.model, "data": self.data, "evaluation": self.evaluation, "output": self.output} | changed
        options: list[object] = ["convert", given["model"], "--data", given["data"]]
        options += ["--eval", given["evaluation"]] if given["evaluation"] is not None else []
        return [*options, "-o", given["output"], "--latency-runs", 0, "--samples", 16, "--quiet"]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path, tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "evaluation.npz")
    onnx.save(models.network(), made.model)
    np.savez(made.data, **models.samples(made.model, 32, seed=1))
    np.savez(made.evaluation, **models.samples(made.model, 64, seed=2))
    return made
