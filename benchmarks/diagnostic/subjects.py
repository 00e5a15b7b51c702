"""The models of the benchmark: from the assets, or trained here in a minute each, with their samples kept apart.

Fitting and held-out models are disjoint; each side has plain, residual, depthwise and attention networks, and outputs
that are no classes (a denoiser and embeddings; embeddings, an anomaly detector's reconstruction, a face detector).
"""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))
import architectures
import assets

from edgeq.basin.divergence import Task
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.sources.load import load_model

Samples = tuple[torch.Tensor, torch.Tensor]
#: (outputs over all test samples, labels) -> a share, 1 at best.
Score = Callable[[tuple[torch.Tensor, ...], torch.Tensor], float]


def accuracy(outputs: tuple[torch.Tensor, ...], labels: torch.Tensor) -> float:
    """Share of right decisions."""
    return float((outputs[0].argmax(-1) == labels).double().mean())


def explained(outputs: tuple[torch.Tensor, ...], labels: torch.Tensor) -> float:
    """Explained variance (R squared), 0 at least: worse than guessing the mean is no more loss."""
    error = (outputs[0].flatten(1) - labels.flatten(1)).square().mean()
    return max(0.0, float(1 - error / labels.flatten(1).var(0, correction=0).mean()))


def detections(outputs: tuple[torch.Tensor, ...], labels: torch.Tensor) -> float:
    """F1 of the anchors that show a face (probability over 0.7) against the float model's."""
    found, wanted = outputs[0][..., 1] > 0.7, labels
    both = float((found & wanted).sum())
    return 2 * both / max(float(found.sum() + wanted.sum()), 1.0)


def nearest_mean(means: torch.Tensor) -> Score:
    """Accuracy of the nearest class mean, by cosine; means (classes, features)."""

    def score(outputs: tuple[torch.Tensor, ...], labels: torch.Tensor) -> float:
        similarity = functional.normalize(outputs[0], dim=1) @ functional.normalize(means, dim=1).T
        return float((similarity.argmax(1) == labels).double().mean())

    return score


@dataclass(frozen=True, eq=False)
class Subject:
    """A float model with its samples.

    Attributes:
        name: of the model.
        graph: the float model.
        training: unlabelled inputs for calibration, repair and training.
        probe: unlabelled inputs for the diagnosis.
        test: labelled samples that judge.
        score: how the test samples judge.
        task: what the outputs are; None guesses.
        qat_steps: how long a short QAT from the candidate itself is; 0 leaves it out.
        recovery: (steps, batch) of ``edgeq.recovery`` from the best rounding; None leaves it out.
        batch: samples in a forward pass.
        calibration: training samples for ranges and rounding.
        blames: whether the blame trial is made.
    """

    name: str
    graph: Graph
    training: torch.Tensor
    probe: torch.Tensor
    test: Samples
    score: Score = accuracy
    task: Task | None = None
    qat_steps: int = 0
    recovery: tuple[int, int] | None = (400, 32)
    batch: int = 128
    calibration: int = 128
    blames: bool = True


#: name -> whether it fits the thresholds (True) or judges them.
SPLIT: dict[str, bool] = {
    "digits_mlp": True, "digits_cnn": True, "digits_depthwise": True, "cifar_residual": True, "cifar_transformer": True,
    "kws_dscnn": True, "digits_denoiser": True, "digits_embedding": True,
    "digits_residual": False, "digits_transformer": False, "cifar_depthwise": False, "character_gpt": False,
    "resnet20": False, "stories260k": False, "resnet56": False, "efficientnet_lite0": False,
    "resnet20_embedding": False, "ad_autoencoder": False, "ultraface": False,
}  # fmt: skip


def subject(name: str, cache: Path) -> Subject:
    """Load or train a model."""
    if name in _ASSETS:
        return _ASSETS[name]()
    if name == "digits_embedding":
        return _digits_embedding(cache)
    data, epochs = _DATA[name] if name in _DATA else _DATA[name.split("_")[0]]
    training, probe, test = data()
    graph = _trained(name, cache, training, epochs)
    score = explained if test[1].is_floating_point() else accuracy
    steps = 0 if test[1].is_floating_point() else 240 if name.startswith("digits") else 160
    return Subject(name, graph, training[0], probe[0], test, score, qat_steps=steps)


def _digits_embedding(cache: Path) -> Subject:
    """The features of the plain network on digits, judged by their nearest class mean."""
    training, probe, test = _digits()
    _trained("digits_cnn", cache, training, 60)
    state = torch.load(cache / "digits_cnn.pt")
    model = architectures.digits_embedding()
    model.load_state_dict({key: value for key, value in state.items() if key in model.state_dict()})
    weights = cache / "digits_embedding.pt"
    torch.save(model.state_dict(), weights)
    graph = load_model("architectures:digits_embedding", weights=weights, example=[training[0][:2]])
    means = _means(model.eval(), *training)
    return Subject("digits_embedding", graph, training[0], probe[0], test, nearest_mean(means), "values")


def _means(model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        features = torch.cat([model(part) for part in x.split(128)])
    return torch.stack([features[y == label].mean(0) for label in range(int(y.max()) + 1)])


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
        if y.is_floating_point():
            loss = functional.mse_loss(model(x[chosen]), y[chosen])
        else:
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


def _noisy() -> tuple[Samples, Samples, Samples]:
    """Digits with noise; the labels are the clean images."""
    generator = torch.Generator().manual_seed(1)
    first, second, third = (x for x, _ in _digits())
    noisy = [x + 0.6 * torch.randn(x.shape, generator=generator) for x in (first, second, third)]
    return (noisy[0], first), (noisy[1], second), (noisy[2], third)


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
    return Subject("kws_dscnn", graph, a[:350], a[350:500], (a[500:], b[500:]), qat_steps=240)


def _resnet(name: str, probes: int = 160, tests: int = 1_000, recovery: tuple[int, int] | None = (160, 32)) -> Subject:
    load = assets.loader()
    graph = load_model(assets.FOLDER / "cifar_resnet_weights" / f"{name}.onnx")
    x = torch.from_numpy(load.cifar10("train_20k")[0][: 4_000 + probes])
    test = tuple(torch.from_numpy(part[:tests]) for part in load.cifar10())
    return Subject(name, graph, x[:4_000], x[4_000:], (test[0], test[1]), recovery=recovery, blames=name == "resnet20")


def _resnet_embedding() -> Subject:
    """ResNet-20 without its last layer, judged by the nearest class mean of the float model's features."""
    import onnx
    from onnx.utils import Extractor

    found = _resnet("resnet20")
    path = assets.FOLDER / "cifar_resnet_weights" / "resnet20.onnx"
    whole = onnx.load(path)
    cut = Extractor(whole).extract_model([whole.graph.input[0].name], [whole.graph.node[-1].input[0]])
    with tempfile.TemporaryDirectory() as folder:
        onnx.save(cut, Path(folder) / "embedding.onnx")
        graph = load_model(Path(folder) / "embedding.onnx")
    labels = torch.from_numpy(assets.loader().cifar10("train_20k")[1][:1_000])
    means = _means(to_torch(graph), found.training[:1_000], labels)
    return replace(
        found, name="resnet20_embedding", graph=graph, score=nearest_mean(means), task="values", blames=False
    )


def _efficientnet() -> Subject:
    """48 probe and 240 test images of 1,000 classes, in a seeded order."""
    x, y = assets.loader().imagenet_sample()
    order = np.random.default_rng(0).permutation(len(x))[:416]
    a, b = torch.from_numpy(x[order]), torch.from_numpy(y[order])
    graph = load_model(assets.FOLDER / "efficientnet_lite0" / "efficientnet_lite0.onnx")
    return Subject(
        "efficientnet_lite0", graph, a[:128], a[128:176], (a[176:], b[176:]), recovery=(80, 8), batch=8,
        calibration=64, blames=False,
    )  # fmt: skip


def _autoencoder() -> Subject:
    """MLPerf Tiny's anomaly detector on noise; there is no data, so the float model's outputs are the truth."""
    graph = load_model(assets.FOLDER / "ad_autoencoder" / "ad_autoencoder.onnx")
    x = torch.randn((1_400, 640), generator=torch.Generator().manual_seed(0)) * 10
    test = _by_float(graph, x[900:], 128)[0]
    return Subject("ad_autoencoder", graph, x[:700], x[700:900], (x[900:], test), explained, blames=False)


def _faces() -> Subject:
    """UltraFace on photographs at 320 x 240; the float model's detections are the truth."""
    x = torch.from_numpy(assets.loader().imagenet_sample()[0])
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(x))[:376])
    x = functional.interpolate(x[order], (240, 320), mode="bilinear")
    path = assets.FOLDER / "ultraface" / "version-RFB-320_without_postprocessing.onnx"
    graph = load_model(path)
    test = _by_float(graph, x[176:], 1)[0][..., 1] > 0.7
    return Subject(
        "ultraface", graph, x[:128], x[128:176], (x[176:], test), detections, recovery=(640, 1), batch=1,
        calibration=48, blames=False,
    )  # fmt: skip


def _by_float(graph: Graph, x: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    module = to_torch(graph)
    with torch.no_grad():
        found = [result if isinstance(result := module(part), tuple) else (result,) for part in x.split(size)]
    return tuple(torch.cat(parts) for parts in zip(*found, strict=True))


def _stories() -> Subject:
    sys.path.insert(0, str(assets.FOLDER / "stories260k"))
    found = [s[:97] for s in assets.loader().stories(300)[0] if len(s) >= 97]
    rows = torch.from_numpy(np.stack(found))
    x, y = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    graph = load_model("model:build", weights=assets.FOLDER / "stories260k" / "stories260K.pt", example=[x[:2]])
    return Subject(
        "stories260k", graph, x[:-60], x[-60:-40], (x[-40:], y[-40:]), recovery=(160, 20), batch=20, calibration=40
    )


_ASSETS: dict[str, Callable[[], Subject]] = {
    "kws_dscnn": _keywords,
    "resnet20": partial(_resnet, "resnet20"),
    "resnet56": partial(_resnet, "resnet56", 96, 400),
    "resnet20_embedding": _resnet_embedding,
    "stories260k": _stories,
    "efficientnet_lite0": _efficientnet,
    "ad_autoencoder": _autoencoder,
    "ultraface": _faces,
}
_DATA: dict[str, tuple[Callable[[], tuple[Samples, Samples, Samples]], int]] = {
    "digits": (_digits, 60),
    "digits_denoiser": (_noisy, 60),
    "cifar": (_small_cifar, 4),
    "character": (_characters, 2),
}
