"""The float model as teacher: its outputs on the fly, or once for all samples where these are seen several times."""

import torch
from torch import fx

from edgeq.graph.execute import to_torch
from edgeq.graph.graph import Graph
from edgeq.recovery.logits import Outputs, as_outputs, leave_softmax
from edgeq.recovery.samples import Batch, Inputs, Samples

#: Outputs of all samples are kept in memory up to this many bytes.
CACHE_BYTES = 2**28


class Teacher:
    """Outputs of the float model.

    Args:
        graph: the float model.
        device: where it runs.
    """

    def __init__(self, graph: Graph, device: torch.device) -> None:
        self.module: fx.GraphModule = to_torch(graph).to(device)
        leave_softmax(self.module)
        self.device = device
        self._cache: Outputs | None = None

    def remember(self, samples: Samples, steps: int) -> None:
        """Compute all samples' outputs once if that is less work than ``steps`` batches, and if they fit in memory.

        They are computed in fixed chunks, so that a resumed run has the same numbers to the last bit.
        """
        stored = samples.stored()
        if stored is None or len(stored[0]) >= steps * samples.batch_size:
            return
        first = self._compute(tuple(x[:1] for x in stored))
        if sum(x.numel() * x.element_size() for x in first) * len(stored[0]) > CACHE_BYTES:
            return
        size = samples.batch_size
        chunks = [self._compute(tuple(x[i : i + size] for x in stored)) for i in range(0, len(stored[0]), size)]
        self._cache = tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))

    def outputs(self, batch: Batch) -> Outputs:
        """The float outputs of a batch."""
        if self._cache is not None and batch.indices is not None:
            return tuple(x[batch.indices.to(x.device)] for x in self._cache)
        return self._compute(batch.inputs)

    @torch.no_grad()
    def _compute(self, inputs: Inputs) -> Outputs:
        return as_outputs(self.module(*(laid_out(x, self.device) for x in inputs)))


def laid_out(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """On the device, images with channels last: convolutions and their gradients are faster so, on CPU and GPU."""
    layout = torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
    return tensor.to(device).contiguous(memory_format=layout)
