"""Calibration, probe and evaluation samples are kept apart."""

from pathlib import Path

import numpy as np
import pytest

from edgeq.calibration.data import open_dataset
from edgeq.calibration.specs import InputSpec
from edgeq.calibration.split import refuse_overlap, split
from edgeq.errors import DataError

SPECS = (InputSpec("x", (None, 4), np.dtype(np.float32)),)
X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def test_parts_are_disjoint_and_repeatable() -> None:
    dataset = open_dataset({"x": X}, SPECS)
    parts = split(dataset, {"calibration": 10, "probe": 5, "evaluation": 15}, seed=3)
    again = split(dataset, {"calibration": 10, "probe": 5, "evaluation": 15}, seed=3)
    assert [len(part) for part in parts.values()] == [10, 5, 15]
    assert sorted(np.concatenate([part.indices for part in parts.values()])) == list(range(30))
    assert all(np.array_equal(parts[name].indices, again[name].indices) for name in parts)
    assert not np.array_equal(parts["probe"].indices, split(dataset, {"probe": 5}, seed=4)["probe"].indices)
    refuse_overlap(parts)


def test_equal_samples_never_land_in_two_parts() -> None:
    dataset = open_dataset({"x": np.concatenate([X, X])}, SPECS)
    refuse_overlap(split(dataset, {"calibration": 15, "evaluation": 15}))
    with pytest.raises(DataError, match="holds 30 distinct samples of 60, too few for calibration 20, evaluation 20"):
        split(dataset, {"calibration": 20, "evaluation": 20})


def test_overlapping_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=X[:20])
    np.savez_compressed(tmp_path / "b.npz", x=X[18:])
    sets = {name: open_dataset(tmp_path / f"{name}.npz", SPECS) for name in "ab"}
    with pytest.raises(
        DataError, match=r"2 of 12 b samples are also a samples \(sample 0 of b\.npz equals sample 18 of a"
    ):
        refuse_overlap(sets)
