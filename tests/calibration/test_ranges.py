"""Ranges are those of NumPy on all samples at once, merged by group and bounded by clamps."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from edgeq.calibration.data import open_dataset
from edgeq.calibration.observers import MinMax
from edgeq.calibration.ranges import observe
from edgeq.calibration.specs import input_specs
from edgeq.errors import DataError
from edgeq.graph.execute import iterate_values, to_torch

from .networks import convolutions, images, skeleton

GRAPH = convolutions()
MODULE = to_torch(GRAPH)
SKELETON = skeleton(GRAPH)


def test_ranges_are_the_extremes_of_each_group() -> None:
    x = images(20)
    dataset = open_dataset({"x": x}, input_specs(GRAPH.inputs))
    told: list[tuple[int, int | None]] = []
    ranges = observe(MODULE, dataset, SKELETON, batch=8, progress=lambda done, of: told.append((done, of)))
    with torch.no_grad():
        values = dict(iterate_values(MODULE, (torch.from_numpy(x),)))
    assert set(ranges.ranges) == set(SKELETON.groups.values())
    for group, (low, high) in ranges.ranges.items():
        members = [values[v].numpy() for v, g in SKELETON.groups.items() if g == group]
        # Batches of another size may sum a convolution in another order.
        np.testing.assert_allclose(low, min(m.min() for m in members), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(high, max(m.max() for m in members), rtol=1e-5, atol=1e-6)
    assert told == [(8, 20), (16, 20), (20, 20)]
    assert ranges.samples == 20


def test_a_clamp_bounds_the_range_whatever_was_seen() -> None:
    ranges = observe(MODULE, [(torch.from_numpy(images(4) * 1e4),)], SKELETON)
    assert ranges[SKELETON.groups["r2"]] == (0.0, 6.0)


def test_no_samples_is_an_error() -> None:
    with pytest.raises(DataError, match="no calibration samples"):
        observe(MODULE, [], SKELETON)


def test_a_value_that_overflows_is_named() -> None:
    with pytest.raises(DataError, match=r"value '.*' holds NaN or infinity"):
        observe(MODULE, [(torch.full((1, 3, 6, 6), 3e38),)], SKELETON)


_PEAK = """
import resource, sys, torch
from tests_networks import GRAPH, MODULE, SKELETON
from edgeq.calibration.observers import Mse
from edgeq.calibration.ranges import observe
count = int(sys.argv[1])
generator = torch.Generator().manual_seed(0)
observe(MODULE, ((torch.randn(32, 3, 32, 32, generator=generator),) for _ in range(count // 32)), SKELETON, Mse)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_calibration_memory_is_flat(tmp_path: pytest.TempPathFactory) -> None:
    from pathlib import Path

    here = Path(__file__).parent
    (Path(str(tmp_path)) / "tests_networks.py").write_text(
        (here / "networks.py").read_text() + "\nfrom edgeq.graph.execute import to_torch\n"
        "GRAPH = convolutions(side=32)\nMODULE = to_torch(GRAPH)\nSKELETON = skeleton(GRAPH)\n"
    )

    def peak(count: int) -> int:
        run = subprocess.run(
            [sys.executable, "-c", _PEAK, str(count)], capture_output=True, text=True, check=True,
            env={"PYTHONPATH": f"{tmp_path}:{here.parents[1]}", "OMP_NUM_THREADS": "1", "PATH": ""},
        )  # fmt: skip
        return int(run.stdout)

    # In kB; 2,048 samples of one activation here would be 64 MB.
    assert peak(2048) < peak(128) + 10_000


def test_a_group_without_zero_point_is_searched_symmetrically() -> None:
    """LiteRT takes the right operand of a product of two activations only so."""
    asked: dict[str, bool] = {}

    class Asked(MinMax):
        def range(self, bits: int, *, symmetric: bool = False) -> tuple[float, float]:
            asked[f"{self.low:.3f}"] = symmetric
            return super().range(bits, symmetric=symmetric)

    centred = SKELETON.groups["a"]
    found = observe(MODULE, [(torch.from_numpy(images(4)),)], replace(SKELETON, centred=frozenset({centred})), Asked)
    assert sum(asked.values()) == 1
    assert asked[f"{found.extremes[centred][0]:.3f}"]
