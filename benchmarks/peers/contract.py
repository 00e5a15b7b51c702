"""What every peer script shares: a JSON job comes in, one JSON line goes out, a clock runs over the quantization alone.

Needs NumPy alone, so that it runs in every peer's environment; onnxruntime or torch only where a function says so.
"""

import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
#: A module's outputs are the file's if they are so near, relative to the largest.
_EQUAL = 1e-4
#: Arrays by the name of the input.
Batch = dict[str, Array]


class UnsupportedError(Exception):
    """The peer does not offer what the job asks for; the message says what."""


@dataclass(frozen=True)
class Job:
    """What to quantize and how.

    Attributes:
        model: the float ONNX file.
        factory: file and function of the same model in PyTorch, and its weights; None if there is none.
        calibration: npz of the unlabelled samples, the model's inputs in their order and by their names.
        evaluation: npz of the same.
        whole: one sample is one whole input, without an axis of samples.
        weights: bits.
        activations: bits, or None: float.
        block: so many inputs of an output share a scale of weights; None: all of them.
        ends: first and last layer at 8 bits.
        method: of the peer.
        output: folder that is there and empty.
        reference: npy of what the file gives for the first calibration samples; None: no module is compared with it.
    """

    model: str
    factory: tuple[str, str, str] | None
    calibration: str
    evaluation: str
    whole: bool
    weights: int
    activations: int | None
    block: int | None
    ends: bool
    method: str
    output: str
    reference: str | None = None

    @property
    def coarse(self) -> bool:
        """Whether activations have fewer than 8 bits."""
        return self.activations is not None and self.activations < 8

    def batches(self, size: int) -> list[Batch]:
        """The calibration samples in batches, or one by one if they are whole inputs."""
        return parts(_arrays(self.calibration), size, whole=self.whole)

    def evaluated(self, size: int = 100) -> list[Batch]:
        """The evaluation samples likewise."""
        return parts(_arrays(self.evaluation), size, whole=self.whole)


def _arrays(path: str) -> Batch:
    with np.load(path) as content:
        return {name: content[name] for name in content.files}


def parts(arrays: Batch, size: int, *, whole: bool) -> list[Batch]:
    """Arrays with an axis of samples, in what a model takes at once."""
    count = len(next(iter(arrays.values())))
    if whole:
        return [{name: array[i] for name, array in arrays.items()} for i in range(count)]
    return [{name: array[i : i + size] for name, array in arrays.items()} for i in range(0, count, size)]


def tensors(batch: Batch) -> tuple[Any, ...]:
    """A batch for a torch module."""
    import torch

    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in batch.values())


@dataclass
class Result:
    """What a script found.

    Attributes:
        file: what a runtime would run, in the output folder; None if the peer has none for this format.
        scores: npz with ``scores`` of the peer's simulation where there is no file.
        seconds: CPU seconds of the quantization.
        peak: MB of the process at the end of the quantization.
        base: MB of the process before it: interpreter and libraries.
        note: what the reader should know.
    """

    file: str | None = None
    scores: str | None = None
    seconds: float = 0.0
    peak: float = 0.0
    base: float = 0.0
    note: str = ""

    @contextlib.contextmanager
    def clock(self) -> Iterator[None]:
        """Time and memory of what runs inside."""
        self.base = _peak()
        began = time.process_time()
        yield
        self.seconds += time.process_time() - began
        self.peak = _peak()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(quantize: Callable[[Job], Result]) -> None:
    """Do the job named on the command line and print its result; what a library prints meanwhile goes to stderr."""
    job = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        answer = asdict(quantize(job))
    except UnsupportedError as reason:
        answer = {"unsupported": str(reason)}
    os.write(out, (json.dumps(answer) + "\n").encode())


def torch_module(job: Job) -> Any:
    """The float model in PyTorch, in evaluation mode; one thread.

    Raises:
        UnsupportedError: there is no PyTorch source of the model.
        ValueError: the module does not compute what the file does.
    """
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if job.factory is None:
        raise UnsupportedError("needs a torch module; this model is there as ONNX only")
    module = float_module(job.factory)
    if job.reference is not None:
        reference = np.load(job.reference)
        with torch.no_grad():
            found = np.asarray(module(*tensors(job.batches(len(reference))[0])))
        difference = float(np.abs(found - reference[: len(found)]).max())
        if not difference <= _EQUAL * max(1.0, float(np.abs(reference).max())):
            raise ValueError(f"{Path(job.factory[0]).name}: its outputs are {difference:.2g} from the file's")
    return module


def float_module(factory: tuple[str | Path, ...]) -> Any:
    """The module of a file, a function in it, and its weights: a state dict, or the ONNX file of the same layers."""
    import importlib.util

    import torch

    file, function, weights = map(str, factory)
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = source
    spec.loader.exec_module(source)
    module = getattr(source, function)().eval()
    if Path(weights).suffix == ".onnx":
        source.read(module, weights)
    else:
        module.load_state_dict(torch.load(weights))
    return module


def simulate(job: Job, call: Callable[..., Any]) -> str:
    """Scores of all evaluation samples by a torch callable, written beside the job's other output."""
    import torch

    with torch.no_grad():
        return write_scores(job, [np.asarray(call(*tensors(batch))) for batch in job.evaluated(32)])


def write_scores(job: Job, parts: list[Array]) -> str:
    """The scores as a file."""
    path = Path(job.output) / "scores.npz"
    np.savez(path, scores=np.concatenate(parts))
    return str(path)
