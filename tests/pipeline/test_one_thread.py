"""Codes do not depend on how many threads there are: where they are decided there is one."""

import pytest
import torch

from edgeq.pipeline.one_thread import one_thread


def test_one_inside_and_as_before_after_it_even_after_an_error() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt), one_thread():
            assert torch.get_num_threads() == 1
            raise KeyboardInterrupt
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
