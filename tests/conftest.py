"""What every test shares: the real models and data, where they are, and one thread for torch."""

import os
from pathlib import Path

import pytest

from edgeq.plan.plan import Skeleton

ROOT = Path(__file__).parent.parent


def _assets() -> Path:
    return Path(os.environ.get("EDGEQ_ASSETS", ROOT.parent / "shared" / "assets"))


def pytest_configure(config: pytest.Config) -> None:
    # Two test processes on two cores: more threads only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if (_assets() / "INDEX.md").is_file():
        return
    absent = pytest.mark.skip(reason="no real models and data here; set EDGEQ_ASSETS")
    for item in items:
        if item.get_closest_marker("assets") is not None:
            item.add_marker(absent)


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder of real models and data; only for tests that are marked ``assets``."""
    return _assets()


@pytest.fixture
def every_value_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bits for every value, not only for what layers multiply: so that the ends of each op's grid are tried."""

    def widest(self: Skeleton, value: str) -> int:
        units = [
            u for u in self.units if u.integer and self.groups[value] in map(self.groups.get, u.inputs + u.outputs)
        ]
        return max(bits for unit in units if (bits := self.bits[unit.name].activations) is not None)

    monkeypatch.setattr(Skeleton, "activation_bits", widest)
