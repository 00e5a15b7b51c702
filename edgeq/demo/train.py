"""Train the demonstration's model: ``python -m edgeq.demo.train [FOLDER]`` writes ``digits.onnx`` there.

With ``--data`` it writes the two data files anew from scikit-learn (which only this needs). Both are reproducible: one
thread, fixed seeds.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from edgeq.demo import EVALUATION, FOLDER, TRAIN

_EVALUATION_SAMPLES = 700
_EPOCHS = 25
_BATCH = 32


class Separable(nn.Module):
    """A depthwise and a pointwise convolution, each with batch norm and ReLU6, and a shortcut where shapes allow."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels_in, channels_in, 3, stride, 1, groups=channels_in, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_in)
        self.pointwise = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.residual = stride == 1 and channels_in == channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Feature maps (samples, channels_in, height, width) in, (samples, channels, ...) out."""
        y = functional.relu6(self.norm1(self.depthwise(x)))
        y = self.norm2(self.pointwise(y))
        return functional.relu(x + y) if self.residual else functional.relu6(y)


class Digits(nn.Module):
    """Input (samples, 1, 8, 8) in [0, 1]; output (samples, 10) logits. About 9,500 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.block1 = Separable(32, 32, 1)
        self.block2 = Separable(32, 64, 2)
        self.block3 = Separable(64, 64, 1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images (samples, 1, 8, 8) in, logits (samples, 10) out."""
        x = functional.relu(self.norm(self.stem(x)))
        x = self.block3(self.block2(self.block1(x)))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def write_data() -> None:
    """Write ``train.npz`` and ``evaluation.npz`` from scikit-learn's digits, split by a seeded permutation."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = (digits.images[:, None] / 16.0).astype(np.float32)
    y = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(x))
    held_out, kept = order[:_EVALUATION_SAMPLES], order[_EVALUATION_SAMPLES:]
    np.savez_compressed(TRAIN, x=x[kept], y=y[kept])
    np.savez_compressed(EVALUATION, x=x[held_out], y=y[held_out])


def train(seed: int = 0) -> Digits:
    """Train on ``train.npz``; images are shifted by up to one pixel."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    with np.load(TRAIN) as data:
        x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
    model = Digits()
    steps = _EPOCHS * (len(x) // _BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        batch = torch.randint(0, len(x), (_BATCH,))
        down, right = torch.randint(-1, 2, (2,)).tolist()
        loss = functional.cross_entropy(model(torch.roll(x[batch], (down, right), (2, 3))), y[batch])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return model.eval()


def write_model(model: Digits, folder: Path) -> None:
    """Export to ``digits.onnx`` through edgeq's own factory source."""
    from edgeq.exporters.onnx import export
    from edgeq.graph.graph import Graph
    from edgeq.graph.passes import clean
    from edgeq.graph.sources.pytorch import export_module

    graph = clean(Graph(export_module(model, [torch.zeros(2, 1, 8, 8)], "edgeq.demo.train:Digits")))
    (folder / "digits.onnx").write_bytes(export(graph, None))


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if "--data" in arguments:
        arguments.remove("--data")
        write_data()
    write_model(train(), Path(arguments[0]) if arguments else FOLDER)
