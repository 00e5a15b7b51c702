"""A small real model for the tests: the demonstration's digits network, quantized to nearest."""

from dataclasses import dataclass

import numpy as np
import torch

from edgeq.calibration.nearest import nearest
from edgeq.calibration.ranges import observe
from edgeq.demo import EVALUATION, MODEL, TRAIN
from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.graph.sources import load_model
from edgeq.plan.bits import Bits
from edgeq.plan.plan import Plan
from edgeq.plan.rules import Request, decide


@dataclass(frozen=True, eq=False)
class Case:
    graph: Graph
    plan: Plan
    train: torch.Tensor
    held_out: list[tuple[torch.Tensor, ...]]
    labels: list[torch.Tensor]


def digits(bits: str = "w2a8") -> Case:
    """The digits at that width; recovery trains on ``train``, and 200 evaluation images are held out."""
    graph = load_model(MODEL)
    train = torch.from_numpy(np.load(TRAIN)["x"])
    evaluation = np.load(EVALUATION)
    x, y = torch.from_numpy(evaluation["x"][:200]), torch.from_numpy(evaluation["y"][:200])
    skeleton = decide(graph, Request(bits=Bits.parse(bits)))
    plan = nearest(graph, skeleton, observe(to_torch(graph), [(train[:200],)], skeleton))
    return Case(graph, plan, train, [(part,) for part in x.split(50)], list(y.split(50)))
