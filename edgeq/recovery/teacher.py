"""The float model as teacher: its outputs on the fly, or once for all samples where these are seen several times."""

from dataclasses import dataclass

import torch
from torch import fx

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.recovery.features import exposing
from edgeq.recovery.logits import Outputs, as_outputs, leave_softmax
from edgeq.recovery.samples import Batch, Inputs, Samples

#: Outputs of all samples are kept in memory up to this many bytes.
CACHE_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class Lesson:
    """What a batch teaches: the float model's outputs and features."""

    outputs: Outputs
    features: Outputs = ()


class Teacher:
    """Outputs of the float model, and the features to be learnt with them.

    Args:
        graph: the float model.
        device: where it runs.
        features: values of the graph that a lesson holds besides the outputs.
    """

    def __init__(self, graph: Graph, device: torch.device, features: tuple[str, ...] = ()) -> None:
        module = to_torch(graph)
        leave_softmax(module)
        self.module: fx.GraphModule = module.to(device)
        self.teaching = exposing(self.module, features)
        self.count = len(graph.outputs)
        self.device = device
        self._cache: Outputs | None = None

    def remember(self, samples: Samples, steps: int) -> None:
        """Compute all samples' lessons once if that is less work than ``steps`` batches, and if they fit in memory.

        They are computed in fixed chunks, so that a resumed run has the same numbers to the last bit.
        """
        stored = samples.stored()
        if stored is None or len(stored[0]) >= steps * samples.batch_size:
            return
        first = self._run(self.teaching, tuple(x[:1] for x in stored))
        if sum(x.numel() * x.element_size() for x in first) * len(stored[0]) > CACHE_BYTES:
            return
        size = samples.batch_size
        chunks = [
            self._run(self.teaching, tuple(x[i : i + size] for x in stored)) for i in range(0, len(stored[0]), size)
        ]
        self._cache = tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))

    def lesson(self, batch: Batch) -> Lesson:
        """What a batch teaches."""
        if self._cache is not None and batch.indices is not None:
            found = tuple(x[batch.indices.to(x.device)] for x in self._cache)
        else:
            found = self._run(self.teaching, batch.inputs)
        return Lesson(found[: self.count], found[self.count :])

    def variances(self, inputs: Inputs) -> tuple[float, ...]:
        """Of each feature over some samples: what its error is related to."""
        features = self._run(self.teaching, inputs)[self.count :]
        return tuple(max(float(feature.double().var()), 1e-12) for feature in features)

    def outputs(self, inputs: Inputs) -> Outputs:
        """The float outputs alone."""
        return self._run(self.module, inputs)

    @torch.no_grad()
    def _run(self, module: fx.GraphModule, inputs: Inputs) -> Outputs:
        return as_outputs(module(*(laid_out(x, self.device) for x in inputs)))


def laid_out(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device, images with channels last: convolutions and their gradients are faster so, on CPU and GPU."""
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return tensor.to(device).contiguous(memory_format=layout)
