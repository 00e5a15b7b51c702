"""The models of the benchmark: from the assets, or trained here in a minute each, with their samples kept apart.

Fitting and held-out models are disjoint, and each side has plain, residual, depthwise and attention networks.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))
import architectures
import assets

from edgeq.graph.graph import Graph
from edgeq.graph.sources.load import load_model

Samples = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Subject:
    """A float model with its samples.

    Attributes:
        name: of the model.
        graph: the float model.
        training: unlabelled inputs for calibration, repair and training.
        probe: unlabelled inputs for the diagnosis.
        test: labelled samples that judge.
        qat_steps: how long a short QAT is.
        batch: samples in a forward pass.
    """

    name: str
    graph: Graph
    training: torch.Tensor
    probe: torch.Tensor
    test: Samples
    qat_steps: int = 240
    batch: int = 128


#: name -> whether it fits the thresholds (True) or judges them.
SPLIT: dict[str, bool] = {
    "digits_mlp": True, "digits_cnn": True, "digits_depthwise": True, "cifar_residual": True, "cifar_transformer": True,
    "kws_dscnn": True,
    "digits_residual": False, "digits_transformer": False, "cifar_depthwise": False, "character_gpt": False,
    "resnet20": False, "stories260k": False,
}  # fmt: skip


def subject(name: str, cache: Path) -> Subject:
    """Load or train a model."""
    if name in _ASSETS:
        return _ASSETS[name]()
    data, epochs = _DATA[name.split("_")[0]]
    training, probe, test = data()
    graph = _trained(name, cache, training, epochs)
    return Subject(name, graph, training[0], probe[0], test, qat_steps=240 if name.startswith("digits") else 160)


def _trained(name: str, cache: Path, training: Samples, epochs: int) -> Graph:
    factory: Callable[[], nn.Module] = getattr(architectures, name)
    weights = cache / f"{name}.pt"
    if not weights.exists():
        cache.mkdir(parents=True, exist_ok=True)
        torch.save(_train(factory, training, epochs).state_dict(), weights)
    example = training[0][:2]
    return load_model(f"architectures:{name}", weights=weights, example=[example])


def _train(factory: Callable[[], nn.Module], training: Samples, epochs: int) -> nn.Module:
    torch.manual_seed(0)
    model, (x, y) = factory(), training
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3, weight_decay=1e-3)
    steps = epochs * (len(x) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        if step % (len(x) // 64) == 0:
            order = torch.randperm(len(x))
        chosen = order[64 * (step % (len(x) // 64)) :][:64]
        loss = functional.cross_entropy(model(x[chosen]).flatten(0, -2), y[chosen].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _digits() -> tuple[Samples, Samples, Samples]:
    from sklearn.datasets import load_digits

    found = load_digits()
    x = torch.from_numpy(found.images.astype(np.float32) / 8 - 1)[:, None]
    y = torch.from_numpy(found.target.astype(np.int64))
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    a, b, c = order[:900], order[900:1100], order[1100:]
    return (x[a], y[a]), (x[b], y[b]), (x[c], y[c])


def _small_cifar() -> tuple[Samples, Samples, Samples]:
    load = assets.loader()

    def quarter(part: tuple[np.ndarray, np.ndarray], stop: int) -> Samples:
        return functional.avg_pool2d(torch.from_numpy(part[0][:stop]), 4), torch.from_numpy(part[1][:stop])

    (x, y), test = quarter(load.cifar10("train_20k"), 20_000), quarter(load.cifar10("test"), 1_500)
    return (x[:19_500], y[:19_500]), (x[19_800:], y[19_800:]), test


def _characters() -> tuple[Samples, Samples, Samples]:
    text = (assets.FOLDER / "text" / "tinyshakespeare.txt").read_text(encoding="utf8")
    known = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = torch.tensor([known[c] for c in text])
    rows = ids[: len(ids) // 33 * 33].reshape(-1, 33)
    x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x)))
    a, b, c = order[:24_000], order[24_000:24_064], order[24_100:24_300]
    return (x[a], y[a]), (x[b], y[b]), (x[c], y[c])


def _keywords() -> Subject:
    x, y = assets.loader().keywords()
    order = np.random.default_rng(0).permutation(len(x))
    a, b = torch.from_numpy(x[order]), torch.from_numpy(y[order])
    graph = load_model(assets.FOLDER / "kws_dscnn" / "kws_dscnn.onnx")
    return Subject("kws_dscnn", graph, a[:350], a[350:500], (a[500:], b[500:]))


def _resnet20() -> Subject:
    load = assets.loader()
    graph = load_model(assets.FOLDER / "cifar_resnet_weights" / "resnet20.onnx")
    x = torch.from_numpy(load.cifar10("train_20k")[0][:4_256])
    test = tuple(torch.from_numpy(part[:1_000]) for part in load.cifar10())
    return Subject("resnet20", graph, x[:4_000], x[4_000:], (test[0], test[1]), qat_steps=96)


def _stories() -> Subject:
    sys.path.insert(0, str(assets.FOLDER / "stories260k"))
    spec = importlib.util.find_spec("model")
    assert spec is not None
    found = [s[:97] for s in assets.loader().stories(300)[0] if len(s) >= 97]
    rows = torch.from_numpy(np.stack(found))
    x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    graph = load_model("model:build", weights=assets.FOLDER / "stories260k" / "stories260K.pt", example=[x[:2]])
    return Subject("stories260k", graph, x[:-60], x[-60:-40], (x[-40:], y[-40:]), qat_steps=96, batch=20)


_ASSETS: dict[str, Callable[[], Subject]] = {"kws_dscnn": _keywords, "resnet20": _resnet20, "stories260k": _stories}
_DATA: dict[str, tuple[Callable[[], tuple[Samples, Samples, Samples]], int]] = {
    "digits": (_digits, 60),
    "cifar": (_small_cifar, 4),
    "character": (_characters, 2),
}
