"""The algebra of element orders, against NumPy on arrays of indices."""

from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.exporters.tflite import order as orders

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple)


@st.composite
def permuted_shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape = draw(SHAPES)
    return shape, tuple(draw(st.permutations(range(len(shape)))))


def stored(shape: tuple[int, ...], permutation: tuple[int, ...]) -> np.ndarray:
    """The model's own position of every element, in the order of the file."""
    return np.arange(prod(shape)).reshape(shape).transpose(permutation).reshape(-1)


def unfold(order: orders.Order) -> np.ndarray:
    positions = np.zeros(1, int)
    for size, stride in order:
        positions = (positions[:, None] + np.arange(size) * stride).reshape(-1)
    return positions


@given(permuted_shapes())
def test_an_order_says_where_every_element_lies(case: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    np.testing.assert_array_equal(unfold(orders.permuted(*case)), stored(*case))


@given(permuted_shapes(), st.randoms())
def test_equal_orders_are_equal_bytes(case: tuple[tuple[int, ...], tuple[int, ...]], random: object) -> None:
    shape, first = case
    second = list(first)
    random.shuffle(second)  # type: ignore[attr-defined]
    same = np.array_equal(stored(shape, first), stored(shape, tuple(second)))
    assert (orders.permuted(shape, first) == orders.permuted(shape, second)) == same


@given(permuted_shapes(), st.data())
def test_a_transpose_renames_the_same_bytes(case: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject) -> None:
    shape, layout = case
    permutation = tuple(data.draw(st.permutations(range(len(shape)))))
    renamed = orders.transpose(orders.permuted(shape, layout), shape, permutation)
    assert renamed is not None
    # Position in y of the element that lies at each position in x.
    new = np.arange(prod(shape)).reshape([shape[a] for a in permutation]).transpose(np.argsort(permutation)).reshape(-1)
    np.testing.assert_array_equal(unfold(renamed), new[stored(shape, layout)])


@given(permuted_shapes(), st.data())
def test_a_conversion_moves_one_storage_into_another(
    case: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    shape, source = case
    target = tuple(data.draw(st.permutations(range(len(shape)))))
    found = orders.conversion(orders.permuted(shape, source), orders.permuted(shape, target))
    assert found is not None
    view, permutation = found
    moved = stored(shape, source).reshape(view).transpose(permutation).reshape(-1)
    np.testing.assert_array_equal(moved, stored(shape, target))


@given(permuted_shapes())
def test_the_axes_of_a_storage_are_found_again(case: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, permutation = case
    order = orders.permuted(shape, permutation)
    found = orders.axis_permutation(order, shape, [shape[axis] for axis in permutation])
    assert found is not None
    assert sorted(found) == list(range(len(shape)))
    assert orders.permuted(shape, found) == order
    assert [shape[axis] for axis in found] == [shape[axis] for axis in permutation]


def test_interleaved_digits_are_no_permutation_of_axes() -> None:
    # A 4 x 6 matrix stored as if it were 2 x 2 x 6 with the first two digits swapped.
    assert orders.axis_permutation(orders.permuted((2, 2, 6), (1, 0, 2)), (4, 6)) is None
    # A cut that falls inside a digit.
    assert orders.transpose(((2, 3), (3, 1)), (3, 2), (1, 0)) is None
    assert orders.conversion(((2, 3), (3, 1)), ((3, 2), (2, 1))) is None
