"""The methods by name: how the integers can be chosen, cheapest first. One line here and one file each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from edgeq.calibration.adaround import adaround
from edgeq.calibration.descent import gptq_descent
from edgeq.calibration.gptq import gptq
from edgeq.calibration.grids import activation_grids
from edgeq.calibration.mse_scale import min_max, mse_scale
from edgeq.calibration.nearest import nearest
from edgeq.calibration.parity import chosen, whole
from edgeq.calibration.parts import Store
from edgeq.calibration.ranges import Ranges
from edgeq.calibration.reconstruction import reconstruct
from edgeq.calibration.repair import better, repair
from edgeq.calibration.sequential import Rounding, UnitProgress, sequential
from edgeq.errors import UsageError
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan, Skeleton

#: Batches that choose between a plan before and after reconstruction.
JUDGES = 8

Samples = Sequence[tuple[torch.Tensor, ...]]


@dataclass(frozen=True)
class Method:
    """One way to choose the integers.

    Attributes:
        name: on the command line and in the report.
        does: in one line, for the help.
        rounding: chooses a layer's codes knowing its input; None rounds all layers at once, without samples.
        match_variance: also match each output's variance to the float model's.
        first_order: the rounding looks at weights alone.
        reconstruct: then learn each block's rounding, scales and biases together.
    """

    name: str
    does: str
    rounding: Rounding | None
    match_variance: bool = False
    first_order: bool = False
    reconstruct: bool = False

    def __call__(
        self,
        graph: Graph,
        skeleton: Skeleton,
        ranges: Ranges,
        samples: Samples = (),
        *,
        progress: UnitProgress | None = None,
        store: Store | None = None,
        seed: int = 0,
    ) -> Plan:
        """The plan of this method. Deterministic.

        Args:
            graph: the model, in canonical form.
            skeleton: what is integer, with how many bits.
            ranges: of the quantized values (``edgeq.calibration.ranges.observe``).
            samples: calibration inputs in the order of the graph's inputs, batch by batch; unlabelled.
            progress: called after each unit or block: (name, done, in all).
            store: keeps what is decided for each layer and block, so that an interrupted run goes on there.
            seed: of what is drawn at random.

        Raises:
            DataError: the method needs samples and there are none.
            PlanError: the skeleton asks for the impossible.
        """
        if self.rounding is None:
            return nearest(graph, skeleton, ranges)
        plan = sequential(
            graph, skeleton, activation_grids(skeleton, ranges), samples, self.rounding,
            method=self.name, match_variance=self.match_variance, first_order=self.first_order,
            parities=whole if self.rounding is min_max else chosen, store=store,
            progress=None if self.reconstruct else progress,
        )  # fmt: skip
        if not self.reconstruct:
            return plan
        learned = reconstruct(graph, plan, samples, seed=seed, store=store, progress=progress)
        # Least squares shrinks a block's output: at 2 and 3 bits its variance must be given back, at 4 that costs.
        kept, _ = better(graph, (plan, learned, repair(graph, learned, samples)), list(samples)[:JUDGES])
        return replace(kept, method=self.name)


METHODS: tuple[Method, ...] = (
    Method("nearest", "round to nearest on min-max scales", None),
    Method("bias", "round to nearest, then correct each bias", min_max, first_order=True),
    Method(
        "statistics",
        "round to nearest on MSE scales, then correct each layer's mean and variance",
        mse_scale,
        match_variance=True,
        first_order=True,
    ),
    Method("gptq", "second-order rounding with error fed from the quantized layers before", gptq),
    Method("gptq+variance", "gptq, and each layer's variance corrected", gptq, True),
    Method("descent", "gptq, then coordinate descent on codes and scales", gptq_descent),
    Method("adaround", "learned rounding, started from gptq's scales", adaround),
    Method("brecq", "gptq+variance, then each block learns rounding, scales and biases", gptq, True, reconstruct=True),
)


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        UsageError: there is none; the message lists them.
    """
    found = next((m for m in METHODS if m.name == name), None)
    if found is None:
        raise UsageError(f"--method {name!r}: choose one of {', '.join(m.name for m in METHODS)}")
    return found
