"""Clean-up of a graph: each pass is one file and one function ``Graph -> Graph``; the order is this tuple."""

from collections.abc import Callable

from edgeq.graph.graph import Graph
from edgeq.graph.passes.canonicalize import canonicalize
from edgeq.graph.passes.clip_from_extremum import clip_from_extremum
from edgeq.graph.passes.convolve_batchnorm import convolve_batchnorm
from edgeq.graph.passes.drop_empty import drop_empty
from edgeq.graph.passes.drop_neutral import drop_neutral
from edgeq.graph.passes.expand_functions import expand_functions
from edgeq.graph.passes.fold_batchnorm import fold_batchnorm
from edgeq.graph.passes.fold_constants import fold_constants
from edgeq.graph.passes.keep_module_paths import keep_module_paths
from edgeq.graph.passes.merge_slices import merge_slices
from edgeq.graph.passes.multiply_by_reciprocal import multiply_by_reciprocal
from edgeq.graph.passes.name_everything import name_everything
from edgeq.graph.passes.pool_from_mean import pool_from_mean
from edgeq.graph.passes.remove_dead import remove_dead
from edgeq.graph.passes.static_shapes import static_shapes

PASSES: tuple[Callable[[Graph], Graph], ...] = (
    keep_module_paths,
    canonicalize,
    fold_constants,
    expand_functions,
    name_everything,  # what follows makes names from names
    static_shapes,
    drop_empty,
    drop_neutral,
    fold_batchnorm,
    convolve_batchnorm,
    # A HardSwish that is written out stays so: its sum and product are as good on codes.
    multiply_by_reciprocal,
    clip_from_extremum,
    merge_slices,
    pool_from_mean,
    remove_dead,
    name_everything,
)


def clean(graph: Graph) -> Graph:
    """The graph in canonical form: all passes in order."""
    for graph_pass in PASSES:
        graph = graph_pass(graph)
    return graph


__all__ = ["PASSES", "clean"]
