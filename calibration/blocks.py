"""Blocks of a model: runs of units that only few values leave, the smallest parts whose outputs can be compared.

A cut lies where one value alone made so far is still to be read: after each residual addition, and between any two
layers of a chain. Between two cuts lies a residual block, a transformer's attention or feed-forward half, or a layer;
neighbouring ones are joined until they hold ``AT_LEAST`` quantized weights, so that layers of a chain learn to make up
for one another.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from edgeq.graph.graph import Graph, name
from edgeq.plan.plan import Skeleton, Unit

AT_LEAST = 2


@dataclass(frozen=True)
class Block:
    """Consecutive units.

    Attributes:
        units: in order.
        inputs: values that are read but not made here, constants aside.
        outputs: values made here that are read later, or are the model's.
    """

    units: tuple[Unit, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The names of its first and last unit."""
        first, last = (unit.module or unit.name for unit in (self.units[0], self.units[-1]))
        return first if first == last else f"{first} .. {last}"


def blocks(graph: Graph, skeleton: Skeleton) -> tuple[Block, ...]:
    """All units in blocks, in order."""
    reads = {unit.name: _reads(graph, unit) for unit in skeleton.units}
    last: dict[str, int] = {}
    for position, unit in enumerate(skeleton.units):
        last |= dict.fromkeys(reads[unit.name], position)
    results = {name(value) for value in graph.outputs}
    found: list[Block] = []
    for part in _joined(_cut(skeleton, last, results), skeleton):
        made = {value for unit in part for value in unit.outputs}
        read = dict.fromkeys(value for unit in part for value in reads[unit.name])
        end = skeleton.units.index(part[-1])
        leaving = tuple(v for unit in part for v in unit.outputs if v in results or last.get(v, -1) > end)
        found.append(Block(tuple(part), tuple(value for value in read if value not in made), leaving))
    return tuple(found)


def _cut(skeleton: Skeleton, last: dict[str, int], results: set[str]) -> Iterator[list[Unit]]:
    """Runs of units between cuts."""
    part: list[Unit] = []
    alive: set[str] = set()
    for position, unit in enumerate(skeleton.units):
        part.append(unit)
        alive |= set(unit.outputs)
        alive = {value for value in alive if last.get(value, -1) > position or value in results}
        if len(alive - results) <= 1:
            yield part
            part = []
    if part:
        yield part


def _joined(parts: Iterator[list[Unit]], skeleton: Skeleton) -> Iterator[list[Unit]]:
    """Neighbours joined while neither is a block by itself."""
    waiting: list[Unit] = []
    for part in parts:
        count = _weights(part, skeleton)
        if count >= AT_LEAST and _weights(waiting, skeleton):
            yield waiting
            waiting = []
        waiting = [*waiting, *part]
        if _weights(waiting, skeleton) >= AT_LEAST:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _weights(part: list[Unit], skeleton: Skeleton) -> int:
    return sum(unit.weight is not None and skeleton.bits[unit.name].weights is not None for unit in part)


def _reads(graph: Graph, unit: Unit) -> tuple[str, ...]:
    inside = {name(value) for node in unit.nodes for value in graph.node(node).outputs if value.name}
    read = [name(v) for node in unit.nodes for v in graph.node(node).inputs if v is not None and v.name]
    return tuple(dict.fromkeys(v for v in read if v not in inside and graph.constant(v) is None))
