"""How many samples a model is given at once: so few that no single value is large.

Allocators hand out small blocks again without new page faults, which on large images take longer than the arithmetic;
and memory does not grow with the batch.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import fx

from edgeq.graph.execute import largest_value, to_torch
from edgeq.graph.graph import Graph

#: Bytes of the largest value.
LARGEST_TENSOR = 16 * 2**20

Inputs = tuple[torch.Tensor, ...]


def at_once(graph: Graph, module: fx.GraphModule, batch: Inputs) -> int:
    """How many samples keep every value small, judged by the first of that batch; all where it cannot be cut."""
    if not _can_be_cut(graph, batch):
        return max((len(tensor) for tensor in batch if tensor.ndim), default=1)
    # What is constant (an embedding's table) does not grow with the batch.
    return max(1, LARGEST_TENSOR // largest_value(graph, module, tuple(tensor[:1] for tensor in batch)))


def cut(graph: Graph, samples: Iterable[Inputs], most: int | None = None) -> Iterator[Inputs]:
    """The samples in batches whose largest value stays small; a model of fixed batch takes them as they are.

    Args:
        graph: the model.
        samples: inputs in the order of the graph's inputs, batch by batch.
        most: samples in a batch.
    """
    size = 0
    for batch in samples:
        if not _can_be_cut(graph, batch):
            yield batch
            continue
        size = size or min(at_once(graph, to_torch(graph), batch), most or len(batch[0]))
        yield from zip(*(torch.split(tensor, size) for tensor in batch), strict=True)


def _can_be_cut(graph: Graph, batch: Inputs) -> bool:
    fixed = any(value.shape is None or isinstance(value.shape[0], int) for value in graph.inputs if value.shape != ())
    return not fixed and all(tensor.ndim and len(tensor) == len(batch[0]) for tensor in batch)
