from pathlib import Path

import pytest
import torch

from edgeq.errors import UsageError
from edgeq.recovery import checkpoint

from .models import digits


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    state = {"tensors": [torch.arange(3.0)], "step": 5, "curve": [{"step": 1, "deployed": 0.1}], "stopped": ""}
    checkpoint.save(tmp_path / "c.pt", "run", state)
    found = checkpoint.load(tmp_path / "c.pt", "run")
    assert found is not None
    assert torch.equal(found.pop("tensors")[0], state.pop("tensors")[0])  # type: ignore[index]
    assert found == state
    assert checkpoint.load(tmp_path / "absent.pt", "run") is None


def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    checkpoint.save(path, "run", {"x": torch.zeros(1000)})
    whole = path.read_bytes()
    for damaged in (b"", b"not a checkpoint", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="damaged"):
            checkpoint.load(path, "run")


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"format": 1, "run": "run", "state": pytest.raises}, path)
    with pytest.raises(UsageError, match="damaged"):
        checkpoint.load(path, "run")


def test_the_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt", "one", {})
    with pytest.raises(UsageError, match="of another model"):
        checkpoint.load(tmp_path / "c.pt", "two")


def test_the_fingerprint_sees_codes_scales_and_options() -> None:
    one, other = digits("w4a8").plan, digits("w3a8").plan
    names = {checkpoint.fingerprint(plan, seed) for plan in (one, other) for seed in (0, 1)}
    assert len(names) == 4
    assert checkpoint.fingerprint(digits("w4a8").plan, 0) == checkpoint.fingerprint(one, 0)
