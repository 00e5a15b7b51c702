"""Damaged models: accepted or refused in one line; never a crash, a hang, a traceback, or a file elsewhere."""

from pathlib import Path

import pytest

from .guard import fuzz


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("onnx", 250),
        ("tflite", 500),
        pytest.param("onnx", 10_000, marks=pytest.mark.slow),
        pytest.param("tflite", 10_000, marks=pytest.mark.slow),
    ],
)
@pytest.mark.timeout(7200)
def test_damaged_files_end_well(kind: str, count: int, tmp_path: Path) -> None:
    outcomes = list(fuzz(kind, 0, count, tmp_path))
    assert [outcome.index for outcome in outcomes] == list(range(count))
    wrong = [outcome for outcome in outcomes if not outcome.fine]
    assert not wrong, wrong[0]
    # Damage that nothing refuses, or everything, would test nothing.
    refused = sum(outcome.inspect == "refused" for outcome in outcomes)
    assert 0.1 * count < refused < 0.95 * count


def test_the_guard_sees_all_that_must_not_happen(tmp_path: Path) -> None:
    crash, hang, stray, traceback, fine = fuzz("faulty", 0, 5, tmp_path, seconds=5)
    assert crash.inspect == "the process ended with -11"
    assert hang.inspect == "it took more than 5 s"
    assert stray.wrote == (str(tmp_path / "in" / "stray"),)
    assert traceback.inspect.endswith("ZeroDivisionError: division by zero")
    assert fine.inspect == "taken"
    assert [outcome.fine for outcome in (crash, hang, stray, traceback, fine)] == [False] * 4 + [True]
