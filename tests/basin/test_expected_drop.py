"""E against its definition, and against accuracy where the float model's probabilities are the truth."""

import numpy as np
import pytest
import torch

from edgeq.basin.agreement import agreement
from edgeq.basin.divergence import Divergence, Reference
from edgeq.basin.expected_drop import expected_drop


def _reference(probabilities: torch.Tensor, batch: int = 4, task: str = "classes") -> Reference:
    outputs = tuple((part.log(),) for part in probabilities.split(batch))
    batches = tuple((part[0],) for part in outputs)
    return Reference(batches, outputs, Divergence(task))  # type: ignore[arg-type]


def test_a_changed_decision_costs_the_gap_between_the_two_classes() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1], [0.45, 0.44, 0.11], [0.1, 0.1, 0.8], [0.5, 0.3, 0.2], [0.3, 0.6, 0.1]])
    chosen = np.array([[0], [1], [0], [0], [1]])
    found = expected_drop(chosen, _reference(p.double()))
    gaps = np.array([0, 0.01, 0.7, 0, 0])
    assert found.value == pytest.approx(gaps.mean())
    # Student's t with 4 degrees of freedom at 95 %, one-sided: 2.1318.
    assert found.upper == pytest.approx(gaps.mean() + 2.1318 * gaps.std(ddof=1) / np.sqrt(5), rel=1e-4)


def test_it_is_never_more_than_the_share_of_changed_decisions() -> None:
    generator = torch.Generator().manual_seed(0)
    p = torch.softmax(torch.randn((40, 6), generator=generator, dtype=torch.float64), -1)
    chosen = torch.randint(6, (40, 1), generator=generator).numpy()
    original = p.argmax(-1, keepdim=True).numpy()
    assert 0 <= expected_drop(chosen, _reference(p)).value <= agreement(chosen, original).changed


def test_tokens_count_every_position_once() -> None:
    p = torch.tensor([[[0.6, 0.4], [0.9, 0.1]], [[0.2, 0.8], [0.5, 0.5]]], dtype=torch.float64)
    found = expected_drop(np.array([[1, 0], [1, 1]]), _reference(p, task="tokens"))
    assert found.value == pytest.approx(0.2 / 4)


def test_it_is_the_drop_of_accuracy_where_labels_follow_the_float_model() -> None:
    generator = torch.Generator().manual_seed(1)
    z = torch.randn((20_000, 4), generator=generator, dtype=torch.float64)
    p = torch.softmax(z, -1)
    chosen = (z + 0.5 * torch.randn(z.shape, generator=generator, dtype=torch.float64)).argmax(-1)
    labels = torch.multinomial(p, 1, generator=generator)[:, 0]
    drop = float((p.argmax(-1) == labels).double().mean() - (chosen == labels).double().mean())
    found = expected_drop(chosen[:, None].numpy(), _reference(p, 1000))
    assert agreement(chosen[:, None].numpy(), p.argmax(-1, keepdim=True).numpy()).changed > 3 * found.value
    # Four standard errors of a difference of two shares over 20,000 samples.
    assert drop == pytest.approx(found.value, abs=4 * 0.5 / np.sqrt(20_000))
    assert expected_drop(chosen[:1, None].numpy(), _reference(p[:1])).upper == 1.0
