"""What the gate does not look at is said."""

import numpy as np

from edgeq.pipeline.settle import not_judged

from ..graphs import graph_of, n

ONE = {"one": np.ones(1, np.float32)}


def test_outputs_after_the_first_are_named() -> None:
    nodes = [n("Add", "x one", "boxes"), n("Mul", "x x", "scores"), n("Sub", "x one", "state")]
    (sentence,) = not_judged(graph_of(nodes, ONE, outputs="boxes scores state"))
    assert "judges the first output, 'boxes'; 'scores', 'state' can be seen" in sentence


def test_a_single_output_needs_no_sentence() -> None:
    assert not_judged(graph_of([n("Add", "x one")], ONE)) == ()
