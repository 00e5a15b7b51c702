"""Outputs are told apart by what the float model says, not by their shape alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.metric import default_metric, evaluate
from edgeq.task import guess_task, is_scores

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(32, 3, 8, 8)).astype(np.float32)
TOKENS = RNG.integers(0, 99, (32, 7))
LOGITS = (4 * RNG.normal(size=(32, 10))).astype(np.float32)
EMBEDDINGS = RNG.normal(size=(32, 384)).astype(np.float32)
UNIT = EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(exponents / exponents.sum(1, keepdims=True), np.float32)


@pytest.mark.parametrize("scores", [LOGITS, softmax(LOGITS), softmax(0.01 * LOGITS), LOGITS[:, :2], LOGITS - 50])
def test_class_scores_and_probabilities_are_classes(scores: np.ndarray) -> None:
    assert guess_task(IMAGES, (scores,)) == "classes"
    assert default_metric(None, scores) == "agreement"
    assert default_metric(np.arange(len(scores)) % 2, scores) == "top1"


@pytest.mark.parametrize("vectors", [UNIT, 30 * UNIT, 0.05 * EMBEDDINGS])
def test_embeddings_are_values(vectors: np.ndarray) -> None:
    assert guess_task(TOKENS, (vectors,)) == "values"
    assert default_metric(None, vectors) == "cosine"
    assert evaluate("cosine", vectors, None, vectors).decisions is None


@given(st.floats(0.5, 50), st.integers(2, 200), st.floats(-100, 100))
def test_an_offset_of_all_scores_decides_nothing(size: float, classes: int, offset: float) -> None:
    scores = np.random.default_rng(classes).normal(size=(16, classes)) * size
    assert is_scores(scores) == is_scores(scores + offset)


def test_other_shapes() -> None:
    assert guess_task(TOKENS, (RNG.normal(size=(32, 7, 99)),)) == "tokens"
    assert guess_task(IMAGES, (RNG.normal(size=(32, 7, 99)),)) == "values"
    assert guess_task(LOGITS, (LOGITS,)) == "values", "a reconstruction"
    assert guess_task(IMAGES, (LOGITS, LOGITS)) == "values"
    assert default_metric(None, LOGITS[:, :1]) == "mse"


def test_labels_make_a_weak_classifier_decide() -> None:
    unsure = (1e-3 * LOGITS).astype(np.float32)
    found = evaluate("top1", unsure, LOGITS.argmax(1), unsure)
    assert found.decisions is not None
    assert found.scores.mean() == 1.0
