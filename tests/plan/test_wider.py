"""The remedy of more bits: for a blamed layer's weights and for what it reads and makes."""

import pytest

from edgeq.plan.bits import Bits
from edgeq.plan.plan import Skeleton
from edgeq.plan.rules import Request, decide
from edgeq.plan.wider import wider

from ..graphs import graph_of, n, weights


def skeleton(bits: Bits) -> Skeleton:
    nodes = [n("Conv", "x w", "a"), n("Conv", "a v", "b"), n("Conv", "b u", "y")]
    return decide(graph_of(nodes, weights(w=(3, 3, 1, 1), v=(3, 3, 1, 1), u=(3, 3, 1, 1))), Request(bits))


def test_a_blamed_layer_gets_more_bits_for_what_it_reads_too() -> None:
    asked = skeleton(Bits(4, 4))
    blamed = next(unit.name for unit in asked.units if unit.inputs[0] == "b")
    wide = wider(asked, (blamed,))
    assert {name for name, bits in wide.bits.items() if bits == Bits(8, 8)} == {blamed}
    assert {value: wide.activation_bits(value) for value in wide.groups} == {"x": 4, "a": 4, "b": 8, "y": 8}


@pytest.mark.parametrize(("bits", "wide"), [(Bits(2, None), Bits(8, None)), (Bits(4, 16), Bits(8, 16))])
def test_real_and_wide_activations_stay_as_they_are(bits: Bits, wide: Bits) -> None:
    asked = skeleton(bits)
    assert wider(asked, (asked.units[0].name,)).bits[asked.units[0].name] == wide
