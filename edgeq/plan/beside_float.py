"""What lies between matrix products and float ops: rounded to codes there, with little to gain.

A transformer's normalizations and masked softmaxes are float, and around them lie rotary embeddings, the products of
two activations, sums; between two matrix products lies the gate of an MLP. Each can be an integer op, and each then
rounds its result to 256 steps of one grid for the whole tensor, while the products with weights, which have nearly all
of the arithmetic, gain nothing. Whether the rounding costs much, samples tell (``edgeq.pipeline.settle``). Between
convolutions it is another matter: there the runtimes' kernels pass codes on.
"""

from collections.abc import Iterator

from scipy.cluster.hierarchy import DisjointSet

from edgeq.graph.graph import Graph
from edgeq.plan.ops import IN_BLOCKS
from edgeq.plan.plan import Skeleton, Unit


def beside_float(graph: Graph, skeleton: Skeleton) -> tuple[str, ...]:
    """The integer units without weights that may as well be float: unit names, in order.

    Of those that are connected with no layer in between, all or none: all where one of them is connected to a float op,
    or where the layers around them are matrix products.

    Args:
        graph: the model.
        skeleton: what is integer.
    """
    without_weights = [unit.name for unit in skeleton.units if unit.integer and unit.weight is None]
    connected = DisjointSet(without_weights)
    around: dict[str, list[Unit]] = {name: [] for name in without_weights}
    for one, other in _connected(skeleton):
        if one.name in around and other.name in around:
            connected.merge(one.name, other.name)
        elif one.name in around:
            around[one.name].append(other)
        elif other.name in around:
            around[other.name].append(one)
    neighbours: dict[str, list[Unit]] = {}
    for name, units in around.items():
        neighbours.setdefault(connected[name], []).extend(units)
    chosen = {
        root
        for root, units in neighbours.items()
        if any(_computes(graph, unit) for unit in units)
        or (units and all(unit.weight is not None and unit.op in IN_BLOCKS for unit in units))
    }
    return tuple(name for name in without_weights if connected[name] in chosen)


def _connected(skeleton: Skeleton) -> Iterator[tuple[Unit, Unit]]:
    makers = {value: unit for unit in skeleton.units for value in unit.outputs}
    for reader in skeleton.units:
        yield from ((makers[value], reader) for value in reader.inputs if value in makers)


def _computes(graph: Graph, unit: Unit) -> bool:
    """Whether it is a float op on real numbers, other than a layer or a detector's post-processing."""
    computed = any(graph.constant(value) is None for value in unit.inputs) and "indices" not in unit.reason
    return computed and not unit.integer and unit.weight is None and not unit.reason.startswith("post-processing")
