"""Float ops of ONNX Runtime's own domain, which its graph and transformer optimizers write into models."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgeq.errors import UnsupportedOpError
from edgeq.graph.ops.attention import attention, rotary_embedding
from edgeq.graph.ops.convolution import conv
from edgeq.graph.ops.matrix import gemm
from edgeq.graph.ops.normalization import rms_normalization
from edgeq.graph.ops.op import Op

_DOMAIN = "com.microsoft"


def gelu(x: Tensor) -> Tensor:
    """The product of x and the normal distribution function."""
    return functional.gelu(x)


def bias_gelu(x: Tensor, bias: Tensor) -> Tensor:
    """Gelu of x + bias."""
    return functional.gelu(x + bias)


def fast_gelu(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu of x + bias by its tanh approximation."""
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


def quick_gelu(x: Tensor, *, alpha: float = 1.702) -> Tensor:
    """The product of x and sigmoid(alpha x)."""
    return x * torch.sigmoid(alpha * x)


def fused_matmul(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Tensor:
    """alpha A B, each with its last two axes swapped if so wanted."""
    if transBatchA or transBatchB:
        raise UnsupportedOpError("FusedMatMul with transposed batch axes is not executed; export without optimization")
    return alpha * torch.matmul(a.transpose(-1, -2) if transA else a, b.transpose(-1, -2) if transB else b)


def _activated(x: Tensor, activation: str, parameters: Sequence[float]) -> Tensor:
    if activation == "":
        return x
    if activation == "Relu":
        return torch.relu(x)
    if activation == "Tanh":
        return torch.tanh(x)
    if activation == "Sigmoid":
        return torch.sigmoid(x)
    if activation == "LeakyRelu":
        return functional.leaky_relu(x, parameters[0])
    if activation == "Clip":
        return torch.clamp(x, *parameters)
    if activation == "HardSigmoid":
        return torch.clamp(parameters[0] * x + parameters[1], 0.0, 1.0)
    raise UnsupportedOpError(f"fused activation {activation!r} is not executed; export without optimization")


def fused_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    added: Tensor | None = None,
    *,
    activation: str = "",
    activation_params: Sequence[float] = (),
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> Tensor:
    """Convolution, then a sum with another tensor, then an activation."""
    y = conv(x, weight, bias, auto_pad=auto_pad, dilations=dilations, group=group, pads=pads, strides=strides)
    return _activated(y if added is None else y + added, activation, activation_params)


def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """Gemm, then an activation."""
    parameters = [p for p in (activation_alpha, activation_beta, activation_gamma) if p is not None]
    return _activated(gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB), activation, parameters)


def skip_layer_normalization(
    x: Tensor,
    skip: Tensor,
    scale: Tensor,
    shift: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """LayerNormalization of x + skip + bias; the fourth output is that sum."""
    total = x + skip if bias is None else x + skip + bias
    variance, mean = torch.var_mean(total, -1, unbiased=False, keepdim=True)
    inverse = torch.rsqrt(variance + epsilon)
    y = (total - mean) * inverse * scale
    y = y if shift is None else y + shift
    return y if outputs == 1 else (y, mean, inverse, total)[:outputs]


def skip_rms_normalization(
    x: Tensor,
    skip: Tensor,
    scale: Tensor,
    bias: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """RMSNormalization of x + skip + bias; the fourth output is that sum."""
    total = x + skip if bias is None else x + skip + bias
    inverse = torch.rsqrt((total * total).mean(-1, keepdim=True) + epsilon)
    y = total * inverse * scale
    return y if outputs == 1 else (y, torch.zeros_like(inverse), inverse, total)[:outputs]


def embed_layer_normalization(
    tokens: Tensor,
    segments: Tensor | None,
    words: Tensor,
    places: Tensor,
    segment_table: Tensor | None,
    scale: Tensor,
    shift: Tensor,
    mask: Tensor | None = None,
    positions: Tensor | None = None,
    *,
    epsilon: float = 1e-12,
    mask_index_type: int = 1,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """LayerNormalization of the sum of word, position and segment embeddings; then the mask's lengths and the sum."""
    where = torch.arange(tokens.shape[1], device=tokens.device) if positions is None else positions.to(torch.int64)
    total = functional.embedding(tokens.to(torch.int64), words) + functional.embedding(where, places)
    if segments is not None and segment_table is not None:
        total = total + functional.embedding(segments.to(torch.int64), segment_table)
    y = functional.layer_norm(total, total.shape[-1:], scale, shift, epsilon)
    if mask is None:
        lengths = torch.zeros(tokens.shape[0], dtype=torch.int32, device=tokens.device)
    else:
        lengths = mask.sum(1).to(torch.int32)
    return y if outputs == 1 else (y, lengths, total)[:outputs]


def packed_attention(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    past: Tensor | None = None,
    attention_bias: Tensor | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: Sequence[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float | None = None,
    unidirectional: int = 0,
    outputs: int = 1,
) -> Tensor:
    """Self-attention with the three projections in one weight (hidden, 3 x hidden)."""
    if past is not None or do_rotary or outputs > 1:
        raise UnsupportedOpError("com.microsoft Attention with a past or rotation is not executed; export without it")
    projected = x @ weight if bias is None else x @ weight + bias
    width = weight.shape[1] // 3
    query, key, value = torch.split(projected, list(qkv_hidden_sizes or (width, width, width)), -1)
    return _heads_attention(
        query, key, value, _padding(mask, x, mask_filter_value), attention_bias, num_heads, scale, unidirectional
    )


def multi_head_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    attention_bias: Tensor | None = None,
    *,
    mask_filter_value: float = -10000.0,
    num_heads: int,
    scale: float | None = None,
    unidirectional: int = 0,
) -> Tensor:
    """Attention of query, key and value (batch, length, heads x size), each with its part of the bias."""
    if bias is not None:
        parts = torch.split(bias, [query.shape[-1], key.shape[-1], value.shape[-1]])
        query, key, value = query + parts[0], key + parts[1], value + parts[2]
    return _heads_attention(
        query, key, value, _padding(mask, key, mask_filter_value), attention_bias, num_heads, scale, unidirectional
    )


def _heads_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    padding: Tensor | None,
    extra: Tensor | None,
    heads: int,
    scale: float | None,
    unidirectional: int,
) -> Tensor:
    bias = padding if extra is None else extra if padding is None else padding + extra
    result = attention(
        query, key, value, bias, is_causal=unidirectional, q_num_heads=heads, kv_num_heads=heads, scale=scale
    )
    assert isinstance(result, Tensor)
    return result


def _padding(mask: Tensor | None, keys: Tensor, fill: float) -> Tensor | None:
    """The additive mask of padded keys, (batch, 1, 1 or rows, keys)."""
    if mask is None:
        return None
    if mask.dim() == 1:  # how many keys each sample has
        mask = torch.arange(keys.shape[1], device=keys.device) < mask.reshape(-1, 1)
    shape = (mask.shape[0], 1, 1, -1) if mask.dim() == 2 else (mask.shape[0], 1, *mask.shape[-2:])
    # A float to float: 1 keeps, 0 blocks.
    return (1 - mask.reshape(shape).to(keys.dtype)) * fill


def rotary(
    x: Tensor,
    positions: Tensor,
    cosines: Tensor,
    sines: Tensor,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Tensor:
    """RotaryEmbedding whose positions may be one first position for all."""
    length = x.shape[2] if x.dim() == 4 else x.shape[1]
    if positions.numel() == 1:
        positions = (positions.reshape(1, 1) + torch.arange(length, device=x.device)).expand(x.shape[0], length)
    heads = num_heads or x.shape[-1] // (2 * cosines.shape[-1])
    return rotary_embedding(
        x,
        cosines,
        sines,
        positions,
        interleaved=interleaved,
        num_heads=heads,
        rotary_embedding_dim=rotary_embedding_dim if rotary_embedding_dim else 2 * cosines.shape[-1],
    )


OPS = {
    ("", "SimplifiedLayerNormalization"): Op(rms_normalization),
    (_DOMAIN, "Attention"): Op(packed_attention),
    (_DOMAIN, "BiasGelu"): Op(bias_gelu),
    (_DOMAIN, "EmbedLayerNormalization"): Op(embed_layer_normalization),
    (_DOMAIN, "FastGelu"): Op(fast_gelu),
    (_DOMAIN, "FusedConv"): Op(fused_conv),
    (_DOMAIN, "FusedGemm"): Op(fused_gemm),
    (_DOMAIN, "FusedMatMul"): Op(fused_matmul),
    (_DOMAIN, "Gelu"): Op(gelu),
    (_DOMAIN, "MultiHeadAttention"): Op(multi_head_attention),
    (_DOMAIN, "QuickGelu"): Op(quick_gelu),
    (_DOMAIN, "RotaryEmbedding"): Op(rotary),
    (_DOMAIN, "SkipLayerNormalization"): Op(skip_layer_normalization),
    (_DOMAIN, "SkipSimplifiedLayerNormalization"): Op(skip_rms_normalization),
}
