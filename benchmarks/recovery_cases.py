"""The models, samples and widths of the recovery benchmark; training samples are used without their labels."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).parent))
import minilm
from assets import FOLDER, loader
from package_inputs import sentences, tokens

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph, name
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.rules import Request

Array = npt.NDArray[Any]
Pair = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Data:
    """Samples of one model.

    Attributes:
        train: inputs and labels; the labels serve the control alone.
        held_out: inputs that recovery judges by, without labels.
        test: inputs and labels that the table is about.
    """

    train: Pair
    held_out: torch.Tensor
    test: Pair


@dataclass(frozen=True)
class Model:
    """A model of the benchmark.

    Attributes:
        graph: loads it.
        data: loads its samples.
        batch: samples in a step.
        calibration: samples that the start is calibrated on.
    """

    graph: Callable[[], Graph]
    data: Callable[[], Data]
    batch: int
    calibration: int


@dataclass(frozen=True)
class Case:
    """One row: a model, a width, and how many steps.

    Attributes:
        ends: whether the first and the last layer have 8 bits: their weights and what they read and make.
    """

    model: str
    bits: Bits
    steps: int
    ends: bool = True

    def request(self, graph: Graph) -> Request:
        """What is asked of the plan."""
        if not self.ends:
            return Request(bits=self.bits)
        weighted = [name(n) for n in graph.nodes if n.op_type in ("Conv", "Gemm", "MatMul")]
        return Request(bits=self.bits, overrides=tuple((weighted[place], Bits(8, 8)) for place in (0, -1)))


def _cifar() -> Data:
    load = loader()
    x, y = (torch.from_numpy(a) for a in load.cifar10("train_20k"))
    test = load.cifar10("test")
    # Mirrored images are twice as many samples, and their teacher's outputs are still computed once.
    train = torch.cat([x[:-2048], x[:-2048].flip(3)]), torch.cat([y[:-2048]] * 2)
    return Data(train, x[-2048:], (torch.from_numpy(test[0]), torch.from_numpy(test[1])))


def _images() -> Data:
    # One image a class: a seeded split is as good as any.
    x, y = loader().imagenet_sample()
    return _split(x, y, np.arange(len(x)), 500, 600)


def _keywords() -> Data:
    x, y = loader().keywords()
    # The set repeats some recordings: each content is drawn once, so that no two parts share one.
    _, distinct = np.unique(x.reshape(len(x), -1), axis=0, return_index=True)
    return _split(x, y, np.sort(distinct), 400, 600)


def _split(x: Array, y: Array, places: Array, train_until: int, held_out_until: int) -> Data:
    order = np.random.default_rng(0).permutation(places)
    train, held_out, test = (torch.from_numpy(part) for part in np.split(order, [train_until, held_out_until]))
    both = torch.from_numpy(x), torch.from_numpy(y)
    return Data((both[0][train], both[1][train]), both[0][held_out], (both[0][test], both[1][test]))


def _stories() -> Data:
    found, _ = loader().stories(300)
    tokens = torch.stack([torch.from_numpy(s[:129]) for s in found if len(s) >= 129])
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
    return Data((x[:-90], y[:-90]), x[-90:-50], (x[-50:], y[-50:]))


def _llama() -> Graph:
    folder = FOLDER / "stories260k"
    sys.path.insert(0, str(folder))
    try:
        example = (torch.zeros(2, 128, dtype=torch.int64),)
        return load_model("model:build", weights=folder / "stories260K.pt", example=example)
    finally:
        sys.path.remove(str(folder))


def _sentences() -> Data:
    """Sentences of Wikipedia articles; the test's "labels" are the float model's own embeddings."""
    found = torch.from_numpy(tokens(sentences(2400), minilm.LENGTH)["input_ids"])
    train, held_out, test = found.split([len(found) - 400, 200, 200])
    with torch.no_grad():
        embeddings = to_torch(_minilm())(test)
    return Data((train, torch.zeros(len(train))), held_out, (test, embeddings))


def _minilm() -> Graph:
    example = (torch.ones(2, minilm.LENGTH, dtype=torch.int64),)
    return load_model("minilm_module:build_of_tokens", weights=minilm.weights(), example=example)


def _onnx(*parts: str) -> Callable[[], Graph]:
    return lambda: load_model(FOLDER.joinpath(*parts))


MODELS: Mapping[str, Model] = {
    "resnet20": Model(_onnx("cifar_resnet_weights", "resnet20.onnx"), _cifar, 32, 512),
    "resnet56": Model(_onnx("cifar_resnet_weights", "resnet56.onnx"), _cifar, 32, 512),
    "efficientnet_lite0": Model(_onnx("efficientnet_lite0", "efficientnet_lite0.onnx"), _images, 16, 100),
    "kws_dscnn": Model(_onnx("kws_dscnn", "kws_dscnn.onnx"), _keywords, 32, 400),
    "stories260k": Model(_llama, _stories, 16, 64),
    "minilm_l6": Model(_minilm, _sentences, 16, 128),
}

CASES: Mapping[str, Case] = {
    "resnet20-w3a8": Case("resnet20", Bits(3, 8), 1200),
    "resnet20-w2a8": Case("resnet20", Bits(2, 8), 3200),
    "resnet20-w4a4": Case("resnet20", Bits(4, 4), 400),
    "resnet20-w3a3": Case("resnet20", Bits(3, 3), 600),
    "resnet20-w2a2": Case("resnet20", Bits(2, 2), 800),
    "resnet56-w4a4": Case("resnet56", Bits(4, 4), 300),
    "resnet56-w2a8": Case("resnet56", Bits(2, 8), 800),
    "resnet56-w3a8": Case("resnet56", Bits(3, 8), 300),
    "resnet56-w3a3": Case("resnet56", Bits(3, 3), 300),
    "resnet56-w2a2": Case("resnet56", Bits(2, 2), 300),
    "resnet20-w4a4-all": Case("resnet20", Bits(4, 4), 400, ends=False),
    "resnet20-w3a8-all": Case("resnet20", Bits(3, 8), 400, ends=False),
    "resnet20-w3a3-all": Case("resnet20", Bits(3, 3), 600, ends=False),
    "resnet20-w2a8-all": Case("resnet20", Bits(2, 8), 1000, ends=False),
    "resnet20-w2a2-all": Case("resnet20", Bits(2, 2), 800, ends=False),
    "resnet56-w4a4-all": Case("resnet56", Bits(4, 4), 300, ends=False),
    "resnet56-w3a8-all": Case("resnet56", Bits(3, 8), 300, ends=False),
    "resnet56-w3a3-all": Case("resnet56", Bits(3, 3), 300, ends=False),
    "resnet56-w2a8-all": Case("resnet56", Bits(2, 8), 300, ends=False),
    "resnet56-w2a2-all": Case("resnet56", Bits(2, 2), 300, ends=False),
    "efficientnet_lite0-w4a8": Case("efficientnet_lite0", Bits(4, 8), 60),
    "efficientnet_lite0-w4a4": Case("efficientnet_lite0", Bits(4, 4), 120),
    "kws_dscnn-w4a4": Case("kws_dscnn", Bits(4, 4), 600),
    "kws_dscnn-w4a4-all": Case("kws_dscnn", Bits(4, 4), 600, ends=False),
    "kws_dscnn-w2a8": Case("kws_dscnn", Bits(2, 8), 800),
    "stories260k-w4a8": Case("stories260k", Bits(4, 8), 200, ends=False),
    "stories260k-w3": Case("stories260k", Bits(3, None), 200, ends=False),
    "stories260k-w2": Case("stories260k", Bits(2, None), 250, ends=False),
    "minilm_l6-w4a8": Case("minilm_l6", Bits(4, 8), 100, ends=False),
    "minilm_l6-w3": Case("minilm_l6", Bits(3, None), 100, ends=False),
}
