"""A run can be stopped anywhere: nothing is half-written, and the same command goes on to the same bytes."""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgeq.cli import main
from edgeq.cli.show import LiveReporter
from edgeq.run_folder import RunFolder

from .conftest import Project, Run

STAGES = ("load", "data", "calibrate", "quantize", "export", "validate cpu-onnxruntime", "validate cpu-litert")
FILES = ("model.onnx", "model.tflite", "junit.xml", "report.json", "summary.md")


@pytest.fixture
def arguments(project: Project) -> list[object]:
    """A run that reports its stages."""
    return [argument for argument in project.arguments() if argument != "--quiet"]


def release(project: Project) -> dict[str, bytes]:
    return {name: (project.output / name).read_bytes() for name in FILES}


def no_half_release(project: Project) -> None:
    """The release is absent; beside the run folder there is nothing (a killed run leaves temporary names)."""
    assert not project.output.exists()
    if project.output.parent.exists():
        visible = [path.name for path in project.output.parent.iterdir() if not path.name.startswith(".")]
        assert visible == []


def goes_on(edgeq: Run, project: Project, arguments: list[object]) -> None:
    """The same command finishes, cleans up, and writes what a run that was never stopped writes."""
    assert edgeq(*arguments).code in (0, 3)
    assert {path.name for path in project.output.parent.iterdir()} == {"release", ".release.run"}
    undisturbed = project.folder / "undisturbed" / "release"
    assert edgeq(*(undisturbed if argument == project.output else argument for argument in arguments)).code in (0, 3)
    resumed = release(project)
    assert resumed == {name: (undisturbed / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("stage", STAGES)
def test_interrupted_in_a_stage(
    edgeq: Run, project: Project, arguments: list[object], stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = LiveReporter.start

    def start(self: LiveReporter, name: str) -> None:
        real(self, name)
        if name == stage:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LiveReporter, "start", start)
        result = edgeq(*arguments)
    assert result.code == 130
    assert result.err.splitlines()[-1] == "edgeq: interrupted; run the same command again to go on where it stopped"
    assert "Traceback" not in result.err
    assert result.out == ""
    no_half_release(project)
    if stage in ("load", "data"):
        assert not project.output.parent.exists()
    if stage in ("calibrate", STAGES[-1]):
        goes_on(edgeq, project, arguments)


def test_a_stage_that_was_done_is_not_done_again(
    edgeq: Run, project: Project, arguments: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert edgeq(*arguments).code in (0, 3)
    stored = {path: path.stat().st_mtime_ns for path in (project.output.parent / ".release.run").iterdir()}

    def again(*_: object, **__: object) -> None:
        raise AssertionError("calibrated again")

    monkeypatch.setattr("edgeq.pipeline.quantize.observe", again)
    assert edgeq(*arguments).code in (0, 3)
    assert {path: path.stat().st_mtime_ns for path in (project.output.parent / ".release.run").iterdir()} == stored


def test_a_method_that_is_interrupted_goes_on_at_its_layer(
    edgeq: Run, project: Project, arguments: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*arguments, "--method", "brecq"]
    real, computed = RunFolder.stage, list[str]()

    def stage(self: RunFolder, name: str, key: Mapping[str, Any], compute: Callable[[], bytes]) -> bytes:
        def counted() -> bytes:
            if name == "part":
                if len(computed) == 3:
                    computed.append("interrupted")
                    raise KeyboardInterrupt
                computed.append(key["part"])
            return compute()

        return real(self, name, key, counted)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "stage", stage)
        assert edgeq(*arguments).code == 130
        done = computed[:3]
        goes_on(edgeq, project, arguments)
    # Once by the run that went on, once by the undisturbed one.
    assert len(done) == len(set(done)) == 3
    assert all(computed.count(part) == 2 for part in done)
    assert len(computed) > 7


def test_a_damaged_result_is_computed_again(edgeq: Run, project: Project, arguments: list[object]) -> None:
    assert edgeq(*arguments).code in (0, 3)
    before = release(project)
    for number, path in enumerate(sorted((project.output.parent / ".release.run").iterdir())):
        data = path.read_bytes()
        path.write_bytes([data[:-1], data[:10], b"", bytes([data[0] ^ 1]) + data[1:]][number % 4])
    assert edgeq(*arguments).code in (0, 3)
    assert release(project) == before


def _in_child(action: Callable[[], None]) -> int:
    """Run in a forked process and give its wait status; what it prints is lost."""
    pid = os.fork()
    if pid == 0:
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            action()
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 99)
        finally:
            os._exit(98)
    return os.waitpid(pid, 0)[1]


def _killed_at_fsync(number: int, arguments: list[object]) -> int:
    """Kill the run with SIGKILL just before its n-th fsync; every file and folder that is written is flushed once."""

    def action() -> None:
        real, count = os.fsync, 0

        def fsync(handle: int) -> None:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            real(handle)

        os.fsync = fsync
        main([str(argument) for argument in arguments])

    return _in_child(action)


@pytest.mark.parametrize("number", [1, 2, 4, 9])
def test_killed_while_writing_a_stages_result(
    edgeq: Run, project: Project, arguments: list[object], number: int
) -> None:
    status = _killed_at_fsync(number, arguments)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    no_half_release(project)
    if number in (1, 9):
        goes_on(edgeq, project, arguments)


@pytest.mark.slow
def test_killed_anywhere_while_writing_the_release(edgeq: Run, project: Project, arguments: list[object]) -> None:
    assert edgeq(*arguments).code in (0, 3)
    before = release(project)
    (project.output / "old").write_text("of the old release")
    number, killed = 0, 0
    while True:  # all stages are stored, so every flush is one of the release's
        number += 1
        status = _killed_at_fsync(number, arguments)
        if not os.WIFSIGNALED(status):
            break
        killed += 1
        # Whole at every moment: the old folder, or the new one.
        assert release(project) == before
    assert os.waitstatus_to_exitcode(status) in (0, 3)
    assert killed >= len(FILES)
    assert not (project.output / "old").exists()
    assert {path.name for path in project.output.parent.iterdir()} == {"release", ".release.run"}


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_from_outside(edgeq: Run, project: Project, arguments: list[object], signum: signal.Signals) -> None:
    command = [sys.executable, "-m", "edgeq", *(str(argument) for argument in arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "data" not in said:
            said += process.stderr.readline()
        process.send_signal(signum)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("edgeq: interrupted")
    assert out == ""
    no_half_release(project)


# A full disk.


class Disk:
    """Refuses the n-th flush to disk, as a full one does."""

    def __init__(self, number: int) -> None:
        self.number, self.count, self.real = number, 0, os.fsync

    def fsync(self, handle: int) -> None:
        self.count += 1
        if self.count == self.number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.real(handle)


@pytest.mark.parametrize("number", [1, 3, 12, 16])
def test_a_disk_that_becomes_full(edgeq: Run, project: Project, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(number)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", disk.fsync)
        result = edgeq(*project.arguments())
    assert disk.count >= number, "the disk never became full"
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "the disk is full" in result.err
    assert result.out == ""
    no_half_release(project)
    hidden = [p.name for p in project.output.parent.rglob("*") if p.name.startswith(".")]
    assert hidden in ([], [".release.run"])


def test_a_disk_that_is_full_keeps_the_old_release(
    edgeq: Run, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert edgeq(*project.arguments()).code in (0, 3)
    before = release(project)
    with monkeypatch.context() as patch:
        real = Path.write_bytes

        def write_half(path: Path, data: bytes) -> int:
            real(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        patch.setattr(Path, "write_bytes", write_half)
        result = edgeq(*project.arguments(), "--seed", 1)
    assert result.code == 2
    assert "the disk is full" in result.err
    assert release(project) == before
    assert {path.name for path in project.output.parent.iterdir()} == {"release", ".release.run"}


def test_a_limit_on_the_size_of_files(project: Project) -> None:
    # The kernel itself refuses the write, in the middle of a file.
    def action() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))
        main([str(argument) for argument in project.arguments()])

    status = _in_child(action)
    assert os.waitstatus_to_exitcode(status) == 2
    no_half_release(project)


@pytest.mark.slow
def test_two_runs_into_one_folder_at_a_time(edgeq: Run, project: Project, arguments: list[object]) -> None:
    command = [sys.executable, "-m", "edgeq", *(str(argument) for argument in arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(1)
        assert edgeq(*arguments).code in (0, 3)
        assert process.wait(timeout=300) in (0, 3)
    assert {path.name for path in project.output.parent.iterdir()} == {"release", ".release.run"}
