"""Models of the kinds that people train, through torch.onnx.export, give what the original module gives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.passes import clean
from edgeq.graph.sources.pytorch import export_module

# Both sides compute in float32; the graph folds BatchNorm into convolutions and adds up in another order.
TOLERANCE = 2e-5


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = _conv(3, 8), _conv(8, 16, stride=2), _conv(16, 16)
        self.shortcut, self.head = _conv(8, 16, 1, 2), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(self.second(functional.relu(self.first(x))) + self.shortcut(x))
        return self.head(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class InvertedResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depth, self.project = _conv(8, 24, 1), _conv(24, 24, groups=24), _conv(24, 8, 1)
        self.stem, self.act, self.head = _conv(3, 8, stride=2), nn.ReLU6(), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        return self.head(x + self.project(self.act(self.depth(self.act(self.expand(x))))))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.squeeze, self.excite = _conv(3, 16), nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.act, self.gate, self.head = nn.Hardswish(), nn.Hardsigmoid(), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.stem(x))
        x = x * self.gate(self.excite(functional.silu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(x.mean((2, 3)))


class EncoderDecoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = _conv(3, 8, stride=2), _conv(8, 16, stride=2)
        self.up, self.merge = nn.ConvTranspose2d(16, 8, 3, 2, 1, output_padding=1), _conv(16, 8)
        self.head = nn.ConvTranspose2d(8, 2, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = functional.leaky_relu(self.down(x), 0.1)
        deep = functional.elu(self.deep(skip))
        merged = functional.relu(self.merge(torch.cat([self.up(deep), skip], 1)))
        return self.head(functional.interpolate(functional.max_pool2d(merged, 2), scale_factor=2.0, mode="bilinear"))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(30, 12), nn.Linear(16, 5)
        self.lstm = nn.LSTM(12, 8, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(tokens))[0]).log_softmax(-1)


class GatedTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(6, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])


class GptBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out, self.heads = nn.Linear(width, 3 * width), nn.Linear(width, width), heads
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.before(x)).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.after(x))


class SmallGpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(40, 16), nn.Embedding(12, 16)
        self.blocks, self.norm = nn.Sequential(GptBlock(16, 4), GptBlock(16, 4)), nn.LayerNorm(16)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        return self.norm(self.blocks(x)) @ self.tokens.weight.t()


class VisionTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 24, 8, 8), nn.Linear(24, 5)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 24)), nn.Parameter(torch.randn(1, 17, 24))
        self.block = nn.TransformerEncoderLayer(24, 3, 48, batch_first=True, norm_first=True, activation="gelu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(self.block(x)[:, 0])


def _image() -> Tensor:
    return torch.randn(2, 3, 32, 32)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "residual": (Residual, _image),
    "inverted residual": (InvertedResidual, _image),
    "squeeze-excite": (SqueezeExcite, _image),
    "encoder-decoder": (EncoderDecoder, _image),
    "LSTM tagger": (Tagger, lambda: torch.randint(0, 30, (2, 9))),
    "GRU tagger": (GatedTagger, lambda: torch.randn(2, 9, 6)),
    "small GPT": (SmallGpt, lambda: torch.randint(0, 40, (2, 12))),
    "vision transformer": (VisionTransformer, _image),
}


@pytest.mark.parametrize("kind", MODELS)
def test_graph_gives_what_the_module_gives(kind: str) -> None:
    torch.manual_seed(0)
    build, make = MODELS[kind]
    module, example = build().eval(), make()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):  # statistics as after training
            layer.running_mean = torch.randn(layer.num_features) * 0.1
            layer.running_var = torch.rand(layer.num_features) + 0.5
    graph = clean(Graph(export_module(module, [example], kind)))
    other = make()[:1].repeat(3, *(1,) * (example.dim() - 1))  # another batch size
    with torch.no_grad():
        expected, result = module(other), to_torch(graph)(other)
    torch.testing.assert_close(result, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_gradients_reach_every_weight_of_the_graph() -> None:
    torch.manual_seed(0)
    executed = to_torch(clean(Graph(export_module(Residual().eval(), [_image()], "residual"))))
    weights = [b for b in executed.buffers() if b.is_floating_point() and b.dim() == 4]
    for weight in weights:
        weight.requires_grad_()
    executed(_image()).square().sum().backward()
    assert len(weights) == 4
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in weights)
