"""all-MiniLM-L6-v2 as a module; needs PyTorch alone, so that it runs in every peer's environment.

The parameters' names are those of the package's safetensors file. Tokens in, one embedding of unit length out, as
sentence-transformers pools it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

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


class OfTokens(MiniLM):
    """The same of tokens alone: the mask leaves out token 0, which fills up."""

    def forward(self, input_ids: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(input_ids, (input_ids != 0).to(torch.int64))


def build() -> nn.Module:
    """The factory."""
    return MiniLM()


def build_of_tokens() -> nn.Module:
    """The factory of the module with one input."""
    return OfTokens()
