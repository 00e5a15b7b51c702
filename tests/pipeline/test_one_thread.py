"""Codes do not depend on how many threads there are: where they are decided there is one."""

import pytest
import torch

from edgeq.pipeline.one_thread import one_thread


@one_thread()
def fail() -> None:
    message = f"{torch.get_num_threads()} inside"
    raise ValueError(message)


def test_one_inside_and_as_before_after_it_even_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="1 inside"):
            fail()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
