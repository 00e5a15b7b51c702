"""One update of latent weights, biases and scales by the straight-through gradient at the deployed point.

loss = mean divergence of the quantized from the float outputs, at one or more temperatures, plus features
gradient: through rounding as if it were the identity, zero where a number saturates (``edgeq.simulate``)
update: Adam, each group at factor x rate x unit (``rates``); or Polyak's step
after it: scales back into their bounds, oscillating weights frozen, moving average taken

Activations on fine grids (``Recipe.fine_bits``) stay real while training: their rounding is noise that the gradient
passes unseen, and costs a third of a step. Whenever the model is scored, they are on their grids.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from edgeq.basin.divergence import Divergence
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.recovery.averaging import Average
from edgeq.recovery.features import distance, exposing
from edgeq.recovery.latents import begin
from edgeq.recovery.logits import Outputs, as_outputs, leave_softmax
from edgeq.recovery.oscillation import Freezer
from edgeq.recovery.parallel import average_gradients
from edgeq.recovery.rates import Group, Recipe, groups
from edgeq.recovery.samples import Inputs
from edgeq.recovery.schedule import polyak_step
from edgeq.recovery.step_sizes import bounds
from edgeq.recovery.teacher import Lesson, laid_out
from edgeq.simulate import Simulation


class Trainer:
    """Holds everything that changes during a run.

    Args:
        graph: the float model.
        plan: the start.
        recipe: how fast everything learns.
        divergence: the loss; at the recipe's temperatures, summed.
        device: where it runs.
        layers: learn these units only; None learns all.
        features: values that are compared besides the outputs.
        variances: of these in the float model.
    """

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        recipe: Recipe,
        divergence: Divergence,
        device: torch.device,
        layers: frozenset[str] | None = None,
        features: tuple[str, ...] = (),
        variances: tuple[float, ...] = (),
    ) -> None:
        self.recipe, self.device, self.variances = recipe, device, variances
        # Only a softmax has a temperature.
        temperatures = (1.0,) if divergence.task == "values" else recipe.temperatures
        self.divergences = tuple(replace(divergence, temperature=t) for t in temperatures)
        self.simulation = Simulation(graph, plan).requires_grad_(False)
        begin(self.simulation, graph)
        leave_softmax(self.simulation.module)
        self.simulation.to(device)
        self._learning = exposing(self.simulation.module, features)
        self._fine = [q for _, q in self.simulation.activations() if q.bits >= recipe.fine_bits]
        self.groups: tuple[Group, ...] = groups(self.simulation, plan, recipe, layers)
        self.parameters: tuple[torch.Tensor, ...] = tuple(group.parameter for group in self.groups)
        for parameter in self.parameters:
            parameter.requires_grad_(True)
        self.bounds = bounds(self.simulation, plan)
        self.optimizer = torch.optim.Adam(
            [{"params": [g.parameter], "lr": 0.0} for g in self.groups], betas=recipe.momentum
        )
        self.average = Average(self.parameters, recipe.average)
        weights = tuple(self.simulation.weights.values())
        self.freezer = Freezer(weights, recipe.freeze_above) if recipe.freeze_above > 0 else None
        self._start = [q.codes() for q in weights]

    def outputs(self, inputs: Inputs) -> Outputs:
        """The quantized model's outputs (logits), differentiable."""
        return as_outputs(self.simulation(*(laid_out(x, self.device) for x in inputs)))

    def update(self, step: int, inputs: Inputs, lesson: Lesson, rate: float) -> float:
        """Take step number ``step`` (from 0) at that rate (``rates``); the loss before it.

        A loss that is not finite changes nothing.
        """
        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")
        with mixed, self._fine_left_out():
            found = as_outputs(self._learning(*(laid_out(x, self.device) for x in inputs)))
        count = len(lesson.outputs)
        loss = torch.stack([phi(found[:count], lesson.outputs).mean() for phi in self.divergences]).sum()
        if lesson.features:
            assert self.recipe.features is not None
            loss = loss + self.recipe.features * distance(found[count:], lesson.features, self.variances)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        value = float(average_gradients(self.parameters, loss, len(inputs[0])))
        if not torch.isfinite(torch.tensor(value)):
            return value
        if self.recipe.polyak > 0:
            self._polyak(value, rate)
        else:
            for state, group in zip(self.optimizer.param_groups, self.groups, strict=True):
                state["lr"] = rate * group.rate * group.unit
            self.optimizer.step()
        for bound in self.bounds:
            bound.hold()
        if self.freezer is not None:
            self.freezer.after_step()
        if self.recipe.average > 0:
            self.average.after_step(step)
        return value

    @contextmanager
    def _fine_left_out(self) -> Iterator[None]:
        for quantizer in self._fine:
            quantizer.enabled = False
        try:
            yield
        finally:
            for quantizer in self._fine:
                quantizer.enabled = True

    @torch.no_grad()
    def _polyak(self, loss: float, factor: float) -> None:
        # The gradient is measured in each group's unit, as if the units were 1.
        moves: list[tuple[torch.Tensor, torch.Tensor]] = []
        squared = 0.0
        for group in self.groups:
            if group.parameter.grad is not None:
                move = group.parameter.grad * (group.unit**2 * group.rate**2 * group.gradient_scale)
                squared += float((move * group.parameter.grad).sum())
                moves.append((group.parameter, move))
        length = polyak_step(loss, squared, self.recipe.polyak * factor)
        for parameter, move in moves:
            parameter.sub_(length * move)

    def flipped(self) -> float:
        """Share of the weight codes that differ from the start's."""
        now = [q.codes() for q in self.simulation.weights.values()]
        total = sum(codes.numel() for codes in now)
        return sum(int((a != b).sum()) for a, b in zip(now, self._start, strict=True)) / max(total, 1)

    def copy(self) -> list[torch.Tensor]:
        """The parameters as they are."""
        return [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def put(self, values: list[torch.Tensor]) -> None:
        """Set the parameters."""
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def forget(self) -> None:
        """Start the optimizer and the moving average anew from where the parameters are."""
        self.optimizer.state.clear()
        self.average.values = self.copy()

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs, as plain containers of tensors and numbers."""
        return {
            "parameters": self.copy(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.values,
            "freezer": self.freezer.state() if self.freezer is not None else [],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.put(state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values = [value.to(self.device) for value in state["average"]]
        if self.freezer is not None:
            self.freezer.load(state["freezer"])
