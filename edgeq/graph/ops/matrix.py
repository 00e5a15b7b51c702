"""Matrix products."""

import torch
from torch import Tensor

from edgeq.graph.ops.op import Op


def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """alpha A B + beta C, with A (M, K) and B (K, N) after the transpositions, C broadcast to (M, N)."""
    product = (a.t() if transA else a) @ (b.t() if transB else b)
    if alpha != 1.0:
        product = _scaled(product, alpha)
    if c is None:
        return product
    return product + (c if beta == 1.0 else _scaled(c, beta))


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x * (factor if x.is_floating_point() else int(factor))


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Matrix product, batched and broadcast over the leading axes."""
    return torch.matmul(a, b)


def einsum(*tensors: Tensor, equation: str) -> Tensor:
    """Sum of products that the equation describes."""
    return torch.einsum(equation.replace(" ", ""), *tensors)


def det(x: Tensor) -> Tensor:
    """Determinant of square matrices (..., M, M)."""
    result: Tensor = torch.linalg.det(x)
    return result


OPS = {
    ("", "Det"): Op(det),
    ("", "Einsum"): Op(einsum),
    ("", "Gemm"): Op(gemm),
    ("", "MatMul"): Op(matmul),
}
