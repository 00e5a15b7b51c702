"""Small networks of the kinds that people train, as factories: plain, residual, depthwise, attention; vision and
language."""

import torch
from torch import nn
from torch.nn import functional


def _conv(a: int, b: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(b), nn.ReLU())


class Residual(nn.Module):
    """Two convolutions around a shortcut."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(a, b, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b))
        self.short = nn.Identity() if a == b and stride == 1 else nn.Conv2d(a, b, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.second(self.first(x)) + self.short(x))


class Separable(nn.Module):
    """Depthwise then pointwise."""

    def __init__(self, a: int, b: int, stride: int) -> None:
        super().__init__()
        self.depthwise = _conv(a, a, stride=stride, groups=a)
        self.pointwise = _conv(a, b, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.pointwise(self.depthwise(x))
        return result


class Block(nn.Module):
    """A transformer block, pre-norm; ``mask`` makes it causal."""

    def __init__(self, dim: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key, self.value, self.out = (nn.Linear(dim, dim) for _ in range(4))
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, t, d = x.shape
        h = self.norm1(x)
        q, k, v = (f(h).view(n, t, self.heads, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5
        if self.causal:
            scores = scores + torch.full((t, t), float("-inf")).triu(1)
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, d))
        result: torch.Tensor = x + self.down(functional.gelu(self.up(self.norm2(x))))
        return result


class PatchTransformer(nn.Module):
    """A vision transformer on patches."""

    def __init__(self, channels: int, size: int, patch: int, dim: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Conv2d(channels, dim, patch, patch)
        self.position = nn.Parameter(torch.randn((size // patch) ** 2, dim) * 0.02)
        self.blocks = nn.Sequential(*(Block(dim, 4, False) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        result: torch.Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return result


class CharacterGpt(nn.Module):
    """A language model of characters."""

    def __init__(self, vocabulary: int = 65, length: int = 32, dim: int = 48, depth: int = 2) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(torch.randn(length, dim) * 0.02)
        self.blocks = nn.Sequential(*(Block(dim, 4, True) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, vocabulary)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.norm(self.blocks(self.token(tokens) + self.position)))
        return result


def _head(width: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)


def digits_mlp() -> nn.Module:
    """Fully connected."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU(),
        nn.Linear(32, 10)
    )  # fmt: skip


def digits_cnn() -> nn.Module:
    """Plain convolutions."""
    return nn.Sequential(_conv(1, 12), _conv(12, 16, stride=2), _conv(16, 24), _conv(24, 24, stride=2), *_head(24))


def digits_residual() -> nn.Module:
    """Residual."""
    return nn.Sequential(_conv(1, 8), Residual(8, 8, 1), Residual(8, 16, 2), Residual(16, 24, 2), *_head(24))


def digits_depthwise() -> nn.Module:
    """Depthwise separable."""
    return nn.Sequential(
        _conv(1, 12), Separable(12, 16, 1), Separable(16, 24, 2), Separable(24, 32, 1), Separable(32, 32, 2), *_head(32)
    )  # fmt: skip


def digits_transformer() -> nn.Module:
    """Attention."""
    return PatchTransformer(1, 8, 2, 32, 2)


def cifar_residual() -> nn.Module:
    """Residual, 8 x 8 colour images."""
    return nn.Sequential(_conv(3, 16), Residual(16, 16, 1), Residual(16, 32, 2), Residual(32, 48, 2), *_head(48))


def cifar_depthwise() -> nn.Module:
    """Depthwise separable, 8 x 8 colour images."""
    return nn.Sequential(
        _conv(3, 24), Separable(24, 32, 1), Separable(32, 48, 2), Separable(48, 48, 1), Separable(48, 64, 2),
        Separable(64, 64, 1), *_head(64),
    )  # fmt: skip


def cifar_transformer() -> nn.Module:
    """Attention, 8 x 8 colour images."""
    return PatchTransformer(3, 8, 2, 48, 2)


def character_gpt() -> nn.Module:
    """Causal attention over characters."""
    return CharacterGpt()


def digits_embedding() -> nn.Module:
    """The plain convolutions without their classifier: 24 features."""
    return nn.Sequential(*list(digits_cnn().children())[:-1])


def digits_denoiser() -> nn.Module:
    """Noisy digits to clean ones: regression."""
    return nn.Sequential(
        _conv(1, 16), _conv(16, 24, stride=2), _conv(24, 32), nn.Upsample(scale_factor=2), _conv(32, 16),
        nn.Conv2d(16, 1, 3, padding=1),
    )  # fmt: skip
