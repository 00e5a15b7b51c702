"""--bits auto keeps what the user asked of single layers, and refuses sizes it cannot meet or read."""

import pytest

from edgeq.cli.convert import _size
from edgeq.errors import UsageError
from edgeq.pipeline.widths import Widths, with_widths
from edgeq.plan.bits import FLOAT, Bits
from edgeq.plan.plan import Skeleton, Unit


def test_only_layers_left_at_eight_bits_change() -> None:
    units = tuple(Unit(name, "Conv", (name,), ("x",), (f"{name}_out",), integer=True, reason="r") for name in "abc")
    skeleton = Skeleton(units, {"a": Bits(8, 8), "b": Bits(6, 8), "c": FLOAT}, {})
    found = with_widths(skeleton, {"a": 3, "b": 3, "c": 3})
    assert found.bits == {"a": Bits(3, 8), "b": Bits(6, 8), "c": FLOAT}
    assert [unit.reason for unit in found.units] == ["integer w3a8", "r", "r"]


def test_the_choice_is_told_with_what_it_was_compared_to() -> None:
    told = str(Widths({"a": 2, "b": 4, "c": 4}, 1234.0, 0.01, 3, 0.02))
    assert told == "1 layers at 2, 2 layers at 4 bits: 1.2 kB of weights, divergence 0.01 (uniform 3 bits: 0.02)"


@pytest.mark.parametrize(("text", "size"), [("60kB", 60e3), ("1.5MB", 1.5e6), ("11000.0", 11e3), ("20 B", 20.0)])
def test_sizes_are_read(text: str, size: float) -> None:
    assert _size(text, "auto") == size


def test_sizes_that_mean_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="write for example 60kB"):
        _size("small", "auto")
    with pytest.raises(UsageError, match="goes with --bits auto"):
        _size("60kB", "w8a8")
