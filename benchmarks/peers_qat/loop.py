"""The loop that every peer's fake-quantized module is trained by; needs torch and NumPy alone.

Adam on everything the peer makes trainable, half a cosine down to zero over the budget of CPU seconds. The rate is the
better of ``RATES`` after a twelfth of the budget each, by the training loss. Without labels the loss is the KL
divergence from the float model, as ours; with labels it is the cross-entropy, the peers' usual way.
"""

import copy
import json
import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.contract import float_module
from torch.nn import functional

RATES = (1e-4, 1e-3)
BATCH = 32


@dataclass(frozen=True)
class Job:
    """What to train.

    Attributes:
        factory: file and function of the model, and its weights.
        samples: npz with ``x`` and ``y`` to train on, and ``test`` and ``truth`` to judge on.
        weights: bits; the first and the last layer have 8, and what they read and make too.
        activations: bits.
        calibration: how many of the samples the start is calibrated on.
        seconds: CPU time of the training.
        labels: whether the loss is the labels'.
    """

    factory: tuple[str, str, str]
    samples: str
    weights: int
    activations: int
    calibration: int
    seconds: float
    labels: bool


def main(quantize: Callable[[Job, Any, torch.Tensor], Any]) -> None:
    """Do the job named on the command line: quantize, judge, train, judge; one JSON line comes out."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    out = os.dup(1)
    os.dup2(2, 1)
    with np.load(job.samples) as arrays:
        x, y, test, truth = (torch.from_numpy(arrays[name]) for name in ("x", "y", "test", "truth"))
    module = float_module(job.factory)
    student = quantize(job, module, x[: job.calibration])
    before = _accuracy(student, test, truth)
    began = time.process_time()
    steps, rate = _train(student, float_module(job.factory), x, y, job)
    seconds = time.process_time() - began
    answer = {
        "before": before,
        "after": _accuracy(student, test, truth),
        "steps": steps,
        "rate": rate,
        "CPU s": seconds,
    }
    os.write(out, (json.dumps(answer) + "\n").encode())


def plain(scores: Any) -> torch.Tensor:
    """A peer's own tensor class as a torch.Tensor."""
    return getattr(scores, "value", scores)


@torch.no_grad()
def _accuracy(module: Any, x: torch.Tensor, y: torch.Tensor) -> float:
    right = sum(int((plain(module(a)).argmax(1) == b).sum()) for a, b in zip(x.split(100), y.split(100), strict=True))
    return 100 * right / len(x)


def _train(student: Any, teacher: Any, x: torch.Tensor, y: torch.Tensor, job: Job) -> tuple[int, float]:
    start = copy.deepcopy(student.state_dict())  # AIMET keeps more than tensors in it
    trials = []
    for rate in RATES:
        trials.append(_run(student, teacher, x, y, job, rate, job.seconds / 12)[1])
        student.load_state_dict(start)
    best = RATES[min(range(len(RATES)), key=lambda i: trials[i] if math.isfinite(trials[i]) else math.inf)]
    return _run(student, teacher, x, y, job, best, job.seconds * (1 - len(RATES) / 12))[0], best


def _run(
    student: Any, teacher: Any, x: torch.Tensor, y: torch.Tensor, job: Job, rate: float, seconds: float
) -> tuple[int, float]:
    """Train for so many CPU seconds; (steps, mean loss of the last quarter)."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], lr=rate)
    began, losses = time.process_time(), []
    while (spent := (time.process_time() - began) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * spent))
        chosen = torch.randint(len(x), (BATCH,), generator=generator)
        scores = plain(student(x[chosen]))
        if job.labels:
            loss = functional.cross_entropy(scores, y[chosen])
        else:
            with torch.no_grad():
                wanted = teacher(x[chosen]).log_softmax(1)
            loss = functional.kl_div(scores.log_softmax(1), wanted, reduction="batchmean", log_target=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    last = losses[-max(1, len(losses) // 4) :]
    return len(losses), sum(last) / len(last)
