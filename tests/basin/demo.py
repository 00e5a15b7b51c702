"""The demonstration's model and data as a diagnosis wants them."""

from functools import cache
from importlib.resources import files

import numpy as np
import torch

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import Ranges, observe
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.sources.load import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide

FOLDER = files("edgeq") / "demo"


@cache
def graph() -> Graph:
    return load_model(str(FOLDER / "digits.onnx"))


@cache
def samples(part: str) -> tuple[torch.Tensor, np.ndarray]:
    with np.load(str(FOLDER / f"{part}.npz")) as found:
        key = next(k for k in found.files if k != "y")
        return torch.from_numpy(found[key].astype(np.float32)), found["y"]


def batches(part: str, start: int, stop: int, size: int = 32) -> list[tuple[torch.Tensor]]:
    return [(b,) for b in samples(part)[0][start:stop].split(size)]


@cache
def plan(bits: str, per_channel: bool = True) -> Plan:
    skeleton = decide(graph(), Request(Bits.parse(bits), per_channel=per_channel))
    ranges = Ranges({}, {}, 0, "none")
    if skeleton.groups:
        ranges = observe(to_torch(graph()), batches("train", 0, 128), skeleton)
    return nearest(graph(), skeleton, ranges)
