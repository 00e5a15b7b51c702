"""A release folder is absent, the old one, or whole; what a killed run leaves is cleaned up."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeq.errors import OutputError
from edgeq.release import atomic
from edgeq.release.atomic import finish_interrupted, scratch_folder, whole_folder, write_file


def fill(folder: Path, text: str) -> None:
    (folder / "edgeq.lock").write_text(text)
    (folder / "model.onnx").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a" / "release") as temporary:
        fill(temporary, "new")
        assert names(tmp_path / "a") == [temporary.name]
    assert names(tmp_path / "a") == ["release"]
    assert names(tmp_path / "a" / "release") == ["edgeq.lock", "model.onnx"]


@pytest.mark.parametrize("exchange", [True, False])
def test_an_old_release_is_replaced(tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    for text in ("old", "new"):
        with whole_folder(tmp_path / "release") as temporary:
            fill(temporary, text)
    assert (tmp_path / "release" / "model.onnx").read_text() == "new"
    assert names(tmp_path) == ["release"]


def test_an_error_inside_keeps_the_old_release(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "release") as temporary:
        fill(temporary, "old")

    def stop(temporary: Path) -> None:
        fill(temporary, "new")
        raise KeyError("stop")

    with pytest.raises(KeyError), whole_folder(tmp_path / "release") as temporary:
        stop(temporary)
    assert (tmp_path / "release" / "model.onnx").read_text() == "old"
    assert names(tmp_path) == ["release"]


def test_a_folder_that_is_no_release_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "dear.jpg").write_bytes(b"x")
    with pytest.raises(OutputError, match="not a release"), whole_folder(tmp_path / "photos"):
        pass
    with pytest.raises(OutputError, match="is a file"), whole_folder(tmp_path / "photos" / "dear.jpg"):
        pass
    assert names(tmp_path / "photos") == ["dear.jpg"]


def test_a_full_disk_is_one_clear_line_and_keeps_the_old_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with whole_folder(tmp_path / "release") as temporary:
        fill(temporary, "old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match="disk is full"), whole_folder(tmp_path / "release") as temporary:
            fill(temporary, "new")
    with pytest.raises(OutputError, match="disk is full"), whole_folder(tmp_path / "release") as temporary:
        full(0)
    assert (tmp_path / "release" / "model.onnx").read_text() == "old"
    assert names(tmp_path) == ["release"]


def test_a_place_without_permission_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(atomic.tempfile, "mkdtemp", refuse)
    with pytest.raises(OutputError, match="no permission"), whole_folder(tmp_path / "release"):
        pass


def test_other_errors_of_the_work_inside_are_not_called_output_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_folder(tmp_path / "release"):
        (tmp_path / "missing input").read_bytes()


def test_leftovers_are_removed_and_a_set_aside_release_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".release.edgeq-new-x").mkdir()
    (tmp_path / ".release.edgeq-old-y").mkdir()
    (tmp_path / ".release.edgeq-old-y" / "edgeq.lock").write_text("old")
    (tmp_path / ".other.edgeq-new-x").mkdir()
    finish_interrupted(tmp_path / "release")
    assert names(tmp_path) == [".other.edgeq-new-x", "release"]
    assert (tmp_path / "release" / "edgeq.lock").read_text() == "old"


def test_a_run_that_is_still_alive_keeps_its_temporary_folder(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "release") as first:
        fill(first, "first")
        with whole_folder(tmp_path / "release") as second:
            fill(second, "second")
        assert first.is_dir()
    assert (tmp_path / "release" / "model.onnx").read_text() == "first"


def test_a_scratch_folder_goes_and_takes_what_killed_runs_left_along(tmp_path: Path) -> None:
    left = tmp_path / "files-left"
    left.mkdir()
    (left / "model.onnx.data").write_bytes(b"large")
    with scratch_folder(tmp_path, "files") as first:
        assert not left.exists()
        (first / "mine").touch()
        with scratch_folder(tmp_path, "files") as second:
            assert (first / "mine").is_file()  # a run that is still alive keeps its own
            assert first != second
    assert not list(tmp_path.iterdir())


def test_write_file_is_whole_and_cleans_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_file(tmp_path / "report.json", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        write_file(tmp_path / "report.json", b"new")
    assert names(tmp_path) == ["report.json"]
    assert (tmp_path / "report.json").read_bytes() == b"old"


WRITER = """
import sys
from pathlib import Path
from edgeq.release.atomic import whole_folder
print("ready", flush=True)
for round in range(10**6):
    with whole_folder(Path(sys.argv[1])) as folder:
        for name in ("edgeq.lock", "a", "b", "c"):
            (folder / name).write_text(str(round))
"""


def test_kill_at_random_moments_leaves_no_half_release(tmp_path: Path) -> None:
    for kill in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "release")], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.002 * kill + 0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if (tmp_path / "release").exists():
            texts = {(tmp_path / "release" / name).read_text() for name in ("edgeq.lock", "a", "b", "c")}
            assert len(texts) == 1
    finish_interrupted(tmp_path / "release")
    assert set(names(tmp_path)) <= {"release"}
