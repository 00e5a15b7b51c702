"""Number formats as users write them."""

import pytest

from edgeq.errors import UsageError
from edgeq.plan.bits import FLOAT, Bits


@pytest.mark.parametrize("weights", range(2, 9))
@pytest.mark.parametrize("activations", [None, *range(2, 9), 16])
def test_a_format_is_read_and_written_alike(weights: int, activations: int | None) -> None:
    bits = Bits(weights, activations)
    assert Bits.parse(str(bits)) == bits
    assert Bits.parse(f" {str(bits).upper()} ") == bits


@pytest.mark.parametrize("text", ["wf", "wfaf", "WF"])
def test_float(text: str) -> None:
    assert Bits.parse(text) == FLOAT


def test_weight_only_with_float_activations_spelt_out() -> None:
    assert Bits.parse("w4af") == Bits(4, None)


@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize("weights", [2, 3, 4])
def test_blocks(weights: int, block: int) -> None:
    assert Bits.parse(f"w{weights}b{block}") == Bits(weights, None, block)
    assert str(Bits(weights, None, block)) == f"w{weights}b{block}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a number format"),
        ("int8", "not a number format"),
        ("w8a8x", "not a number format"),
        ("a8", "not a number format"),
        ("w-8", "not a number format"),
        ("w1", "2 to 8 bits, not 1"),
        ("w9a8", "2 to 8 bits, not 9"),
        ("w8a1", "2 to 8 or 16 bits, not 1"),
        ("w8a32", "2 to 8 or 16 bits, not 32"),
        ("wfa8", "float weights"),
        ("w4b16", "blocks of 32, 64 or 128"),
        ("w8b32", "weight-only formats of 2 to 4 bits"),
        ("w4a8b32", "weight-only formats of 2 to 4 bits"),
        ("wfb32", "weight-only formats of 2 to 4 bits"),
    ],
)
def test_what_is_refused_and_why(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Bits.parse(text)
