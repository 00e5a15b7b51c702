"""Scaled dot-product attention, rotary embedding and the key-value cache."""

import math

import torch
from torch import Tensor

from edgeq.graph.ops.op import Op
from edgeq.graph.ops.types import torch_type


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    valid_lengths: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """softmax(Q K^T scale + bias) V, over (batch, heads, length, size) or heads packed in the last axis.

    A query that may attend to no key gives zeros. Further outputs: the keys and values with the past before them, and
    the scores (raw, capped, with bias, or after softmax, by ``qk_matmul_output_mode``).
    """
    packed = query.dim() == 3
    if packed:
        query = _split_heads(query, q_num_heads or 1)
        key, value = _split_heads(key, kv_num_heads or 1), _split_heads(value, kv_num_heads or 1)
    past = past_key.shape[2] if past_key is not None else 0
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    bias = _bias(query, key, mask, past, valid_lengths, is_causal, left_window_size, right_window_size)
    present = (key, value)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    factor = math.sqrt(scale if scale is not None else 1 / math.sqrt(query.shape[-1]))
    raw = (query * factor) @ (key * factor).transpose(-1, -2)
    capped = softcap * torch.tanh(raw / softcap) if softcap > 0 else raw
    biased = capped if bias is None else capped + bias
    weights = _masked_softmax(biased, bias, softmax_precision)
    y = weights @ value
    if packed:
        y = y.transpose(1, 2).flatten(2)
    return y if outputs == 1 else (y, *present, (raw, capped, biased, weights)[qk_matmul_output_mode])[:outputs]


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)


def _bias(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    past: int,
    valid_lengths: Tensor | None,
    is_causal: int,
    left: int,
    right: int,
) -> Tensor | None:
    """What is added to the scores: 0 or the mask where a key may be attended, -inf where not."""
    rows, columns = query.shape[2], key.shape[2]
    i = torch.arange(rows, device=query.device).reshape(-1, 1)
    j = torch.arange(columns, device=query.device)
    # The place of query i among the keys: after the past, or at the end of the valid keys of each sample.
    place = i + past if valid_lengths is None else i + (valid_lengths.reshape(-1, 1, 1, 1) - rows)
    allowed = []
    if is_causal:
        allowed.append(j <= place)
    if left >= 0:
        allowed.append(j >= place - left)
    if right >= 0:
        allowed.append(j <= place + right)
    if valid_lengths is not None:
        allowed.append(j < valid_lengths.reshape(-1, 1, 1, 1))
    bias = None
    if mask is not None:
        fill = False if mask.dtype == torch.bool else -math.inf
        mask = torch.nn.functional.pad(mask, (0, columns - mask.shape[-1]), value=fill)
        bias = None if mask.dtype == torch.bool else mask
        allowed += [mask] if bias is None else []
    for condition in allowed:
        zero = torch.zeros((), dtype=query.dtype, device=query.device)
        blocked = torch.where(condition, zero, -math.inf)
        bias = blocked if bias is None else bias + blocked
    return bias


def _masked_softmax(scores: Tensor, bias: Tensor | None, precision: int | None) -> Tensor:
    values = scores if precision is None else scores.to(torch_type(precision))
    weights = torch.softmax(values, -1).to(scores.dtype)
    if bias is None:
        return weights
    empty = torch.isneginf(bias).all(-1, keepdim=True)
    return torch.where(empty, torch.zeros_like(weights), weights)


def rotary_embedding(
    x: Tensor,
    cosines: Tensor,
    sines: Tensor,
    positions: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Pairs of features of x (batch, heads, length, size), or heads packed last, rotated by their position's angle."""
    heads = x.transpose(1, 2) if x.dim() == 4 else x.reshape(*x.shape[:2], num_heads, -1)
    width = rotary_embedding_dim or heads.shape[-1]
    turned, kept = heads[..., :width], heads[..., width:]
    if positions is not None:
        cosines, sines = cosines[positions.to(torch.int64)], sines[positions.to(torch.int64)]
    cosine, sine = cosines.unsqueeze(-2), sines.unsqueeze(-2)
    first, second = (turned[..., 0::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    real, imaginary = cosine * first - sine * second, sine * first + cosine * second
    pairs = torch.stack([real, imaginary], -1).flatten(-2) if interleaved else torch.cat([real, imaginary], -1)
    y = torch.cat([pairs, kept], -1)
    return y.transpose(1, 2) if x.dim() == 4 else y.reshape(x.shape)


def tensor_scatter(
    past: Tensor, update: Tensor, first: Tensor | None = None, *, axis: int = -2, mode: str = "linear"
) -> Tensor:
    """The cache with new steps written from each sample's position on; around its end in mode ``circular``."""
    dim = axis % past.dim()
    start = torch.zeros(past.shape[0], dtype=torch.int64, device=past.device) if first is None else first
    shape = [1] * past.dim()
    shape[dim] = update.shape[dim]
    steps = torch.arange(update.shape[dim], device=past.device).reshape(shape)
    places = steps + start.to(torch.int64).reshape(-1, *(1,) * (past.dim() - 1))
    if mode == "circular":
        places = places % past.shape[dim]
    return past.scatter(dim, places.expand(update.shape), update)


def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    chunk_size: int = 64,
    kv_num_heads: int,
    q_num_heads: int,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """Attention with a recurrent state S of (batch, heads, key size, value size), step by step.

    S decays by e^g if gated; it gains k (v - S^T k)^T beta if delta, else k v^T; the output is scale q^T S.
    """
    kind = query.dtype
    q, k, v = (
        _split_heads(x.to(torch.float32) if kind.itemsize < 4 else x, heads)  # the state adds up many steps
        for x, heads in ((query, q_num_heads), (key, kv_num_heads), (value, kv_num_heads))
    )
    factor = scale or 1 / math.sqrt(q.shape[-1])
    state = q.new_zeros(k.shape[0], kv_num_heads, k.shape[-1], v.shape[-1]) if past_state is None else past_state
    groups = q_num_heads // kv_num_heads
    steps = []
    for t in range(q.shape[2]):
        if update_rule in ("gated", "gated_delta") and decay is not None:
            gate = decay[:, t].reshape(decay.shape[0], kv_num_heads, -1, 1)
            state = state * torch.exp(gate)
        target = v[:, :, t]
        if update_rule in ("delta", "gated_delta") and beta is not None:
            recalled = (state * k[:, :, t].unsqueeze(-1)).sum(-2)
            target = (target - recalled) * beta[:, t].reshape(beta.shape[0], -1, 1)
        state = state + k[:, :, t].unsqueeze(-1) * target.unsqueeze(-2)
        shared = state.repeat_interleave(groups, 1)
        steps.append(factor * (q[:, :, t].unsqueeze(-1) * shared).sum(-2))
    return torch.stack(steps, 1).flatten(2).to(kind), state.to(kind)


OPS = {
    ("", "Attention"): Op(attention),
    ("", "LinearAttention"): Op(linear_attention),
    ("", "RotaryEmbedding"): Op(rotary_embedding),
    ("", "TensorScatter"): Op(tensor_scatter),
}
