import numpy as np
import pytest

from edgeq.devices import parity
from edgeq.errors import DeviceError


def test_codes_are_compared_in_steps() -> None:
    first = np.array([[1, 2, 3], [7, 5, 0]], np.int8)
    second = np.array([[1, 3, 3], [7, 8, 0]], np.int8)
    result = parity(first, second, decisions=True)
    assert (result.compared, result.unequal, result.histogram) == (6, 2, {0: 4, 1: 1, 3: 1})
    # Sample 0: argmax 2 against 1 (a tie goes to the first); sample 1: 0 against 1.
    assert result.decisions_agree == 0.0


def test_differences_do_not_wrap_around() -> None:
    assert parity(np.array([-128], np.int8), np.array([127], np.int8)).histogram == {255: 1}


def test_real_numbers_on_a_grid_are_compared_in_its_steps() -> None:
    codes = np.arange(-128, 128)
    scale = np.float32(0.0371)
    real = codes.astype(np.float32) * scale
    assert parity(real, real + 2 * scale, step=float(scale)).histogram == {2: 256}
    assert parity(real, np.nextafter(real, np.float32(9)), step=float(scale)).unequal == 0


@pytest.mark.parametrize(
    ("second", "message"),
    [(np.zeros((2, 3)), "cannot be compared"), (np.array([[0.0, np.nan]]), "NaN"), (np.array([[0.0, np.inf]]), "NaN")],
)
def test_what_cannot_be_compared_is_an_error(second: np.ndarray, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        parity(np.zeros((1, 2)), second)


def test_no_outputs_are_an_error() -> None:
    with pytest.raises(DeviceError, match="no outputs"):
        parity(np.zeros((0, 2)), np.zeros((0, 2)))
