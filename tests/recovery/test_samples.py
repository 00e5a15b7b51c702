import pytest
import torch

from edgeq.errors import DataError
from edgeq.recovery.samples import Shuffled, Streamed


def test_every_epoch_sees_every_sample_once_in_a_new_order() -> None:
    samples = Shuffled((torch.arange(12.0).reshape(12, 1),), 4, seed=3)
    epochs = [torch.cat([samples.batch(step).inputs[0] for step in range(e, e + 3)]).flatten() for e in (0, 3)]
    assert all(sorted(epoch.tolist()) == list(range(12)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_step_has_the_same_batch_whenever_it_is_asked_for() -> None:
    def noisy(inputs: tuple[torch.Tensor, ...], generator: torch.Generator) -> tuple[torch.Tensor, ...]:
        return tuple(x + torch.rand(x.shape, generator=generator) for x in inputs)

    one, two = (Shuffled((torch.arange(10.0).reshape(10, 1),), 4, seed=1, augment=noisy) for _ in range(2))
    forward = [one.batch(step).inputs[0] for step in range(7)]
    backward = [two.batch(step).inputs[0] for step in reversed(range(7))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    other = Shuffled((torch.arange(10.0).reshape(10, 1),), 4, seed=2, augment=noisy)
    assert not torch.equal(other.batch(0).inputs[0], forward[0])


def test_indices_point_at_the_stored_samples_and_are_missing_where_these_are_changed() -> None:
    x = torch.randn(9, 2)
    batch = Shuffled((x,), 4).batch(1)
    assert batch.indices is not None
    assert torch.equal(x[batch.indices], batch.inputs[0])
    augmented = Shuffled((x,), 4, augment=lambda inputs, generator: inputs)
    assert augmented.batch(0).indices is None
    assert augmented.stored() is None


def test_a_stream_can_be_read_from_any_step_and_starts_again_at_its_end() -> None:
    batches = [(torch.full((2, 1), float(i)),) for i in range(3)]
    stream = Streamed(batches)
    assert [float(stream.batch(step).inputs[0][0]) for step in range(5)] == [0, 1, 2, 0, 1]
    assert float(Streamed(batches).batch(4).inputs[0][0]) == 1
    assert float(stream.batch(2).inputs[0][0]) == 2
    assert stream.batch_size == 2


def test_no_samples_are_refused() -> None:
    with pytest.raises(DataError, match="needs samples"):
        Shuffled((torch.empty(0, 3),))
    with pytest.raises(DataError, match="equally many"):
        Shuffled((torch.empty(2, 3), torch.empty(3, 3)))
    with pytest.raises(DataError, match="the source gave none"):
        Streamed([])


def test_a_one_shot_iterator_is_refused_when_it_would_be_read_again() -> None:
    stream = Streamed(iter([(torch.zeros(1),), (torch.zeros(1),)]))
    with pytest.raises(DataError, match="one-shot"):
        [stream.batch(step) for step in range(3)]
