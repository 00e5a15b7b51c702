"""phi, the altitude: how far a model's outputs are from the float model's, sample by sample.

Classes:  phi = KL(p_0 || p) = sum_c p_0(c) (log p_0(c) - log p(c)), p the softmax of the logits; for tokens the mean
          over the positions of a sequence.
Values:   phi = |z - z_0|^2 / V, with V the mean squared deviation of the float outputs from their mean over samples.

Both are zero with zero gradient at the float model, and their second-order term is a quadratic form of the outputs'
tangent J = dz/dt:  1/2 (E_p[J^2] - E_p[J]^2)  (the Fisher form)  and  |J|^2 / V. Sums are float64: at 8 bits phi is
small against the rounding of float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from edgeq.basin.landscape import Batches, Inputs, Landscape, Point
from edgeq.errors import DataError, UsageError
from edgeq.task import Task, guess_task

Outputs = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Divergence:
    """How one model's outputs are compared.

    Attributes:
        task: ``classes`` (samples, classes), ``tokens`` (samples, positions, classes), or ``values`` (any outputs).
        variances: for values, the float outputs' variance, output by output.
        temperature: for classes and tokens, T^2 KL of the softmax of logits / T (Hinton, Vinyals and Dean, "Distilling
            the Knowledge in a Neural Network", 2015). A high one compares all logits, 1 the probabilities.
    """

    task: Task
    variances: tuple[float, ...] = ()
    temperature: float = 1.0

    def __call__(self, outputs: Outputs, reference: Outputs) -> torch.Tensor:
        """phi of every sample, float64 (samples,); differentiable with respect to the outputs."""
        if self.task == "values":
            parts = [
                _flat(z - z0).square().sum(1) / (v * max(z0[0].numel(), 1))
                for z, z0, v in zip(outputs, reference, self.variances, strict=True)
            ]
            return torch.stack(parts).mean(0)
        log_p0 = functional.log_softmax(reference[0].double() / self.temperature, -1)
        log_p = functional.log_softmax(outputs[0].double() / self.temperature, -1)
        return self.temperature**2 * _flat_mean((log_p0.exp() * (log_p0 - log_p)).sum(-1))

    def quadratic(self, outputs: Outputs, tangent: Outputs) -> torch.Tensor:
        """The second-order term of phi for outputs that move by ``tangent``, float64 (samples,)."""
        if self.task == "values":
            return self(tuple(z + j for z, j in zip(outputs, tangent, strict=True)), outputs)
        p = functional.softmax(outputs[0].double() / self.temperature, -1)
        j = tangent[0].double()
        return _flat_mean(0.5 * ((p * j * j).sum(-1) - (p * j).sum(-1).square()).clamp_min(0))

    def decisions(self, outputs: Outputs) -> torch.Tensor | None:
        """The class chosen by each sample, int64 (samples, positions); None where there is nothing to decide."""
        return None if self.task == "values" else outputs[0].argmax(-1).reshape(len(outputs[0]), -1)

    def chance(self, reference: Outputs) -> float:
        """phi of a uniform guess: the mean of log C - H(p_0); for values 1, that of guessing the mean."""
        if self.task == "values":
            return 1.0
        log_p0 = functional.log_softmax(reference[0].double(), -1)
        uniform = torch.log(torch.tensor(float(log_p0.shape[-1]), dtype=torch.float64))
        return float((uniform + (log_p0.exp() * log_p0).sum(-1)).mean())


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double().reshape(len(tensor), -1)


def _flat_mean(per_position: torch.Tensor) -> torch.Tensor:
    return per_position.reshape(len(per_position), -1).mean(1)


@dataclass(frozen=True, eq=False)
class Reference:
    """The float model's outputs on the samples, computed once.

    Attributes:
        batches: the samples.
        outputs: the float outputs of each batch.
        divergence: how others are compared with them.
    """

    batches: Batches
    outputs: tuple[Outputs, ...]
    divergence: Divergence

    def __iter__(self) -> Iterator[tuple[Inputs, Outputs]]:
        return iter(zip(self.batches, self.outputs, strict=True))

    def __len__(self) -> int:
        return sum(len(outputs[0]) for outputs in self.outputs)

    def first(self, samples: int) -> "Reference":
        """The first batches, at least that many samples if there are."""
        count, kept = 0, 0
        while kept < len(self.batches) and count < samples:
            count += len(self.outputs[kept][0])
            kept += 1
        return Reference(self.batches[:kept], self.outputs[:kept], self.divergence)

    def rebatched(self, size: int) -> "Reference":
        """The same samples in batches of at most that size; batches are only ever split."""
        batches: list[Inputs] = []
        outputs: list[Outputs] = []
        for inputs, found in self:
            count = len(found[0])
            whole = all(tensor.ndim and len(tensor) == count for tensor in inputs)
            for start in range(0, count, size if whole else count):
                part = slice(start, start + size)
                batches.append(tuple(tensor[part] for tensor in inputs) if whole else inputs)
                outputs.append(tuple(tensor[part] for tensor in found) if whole else found)
        return Reference(tuple(batches), tuple(outputs), self.divergence)


def refer(landscape: Landscape, batches: Batches, task: Task | None = None) -> Reference:
    """Run the float model over the samples.

    Args:
        landscape: the model.
        batches: unlabelled samples.
        task: what the outputs are; None guesses (``edgeq.task``).

    Raises:
        DataError: there are no samples, or an output of the float model is not finite.
        UsageError: the task does not fit the outputs.
    """
    with torch.no_grad():
        outputs = tuple(landscape.run(landscape.origin, inputs, 0.0) for inputs in batches)
    if not outputs:
        raise DataError("the diagnosis needs probe samples, and there are none")
    if not all(bool(torch.isfinite(tensor).all()) for found in outputs for tensor in found):
        raise DataError("the float model's outputs are not finite on the probe samples; look at the samples' scale")
    chosen = guess_task(batches[0][0].numpy(), tuple(z.numpy() for z in outputs[0])) if task is None else task
    if chosen != "values" and (len(outputs[0]) != 1 or outputs[0][0].ndim != (2 if chosen == "classes" else 3)):
        raise UsageError(f"--task {chosen} does not fit outputs of shape {tuple(outputs[0][0].shape)}; use values")
    variances = _variances(outputs) if chosen == "values" else ()
    return Reference(tuple(batches), outputs, Divergence(chosen, variances))


def _variances(outputs: tuple[Outputs, ...]) -> tuple[float, ...]:
    found = []
    for position in range(len(outputs[0])):
        z = torch.cat([_flat(batch[position]) for batch in outputs])
        spread = float((z - z.mean(0)).square().mean())
        # Outputs that do not vary over the samples are compared with their own size.
        found.append(spread if spread > 1e-12 else max(float(z.square().mean()), 1e-12))
    return tuple(found)


def altitude(
    landscape: Landscape, point: Point, reference: Reference, blend: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """phi of every sample at a point, float64 (samples,), and the decisions there, without gradients."""
    phis, decisions = [], []
    with torch.no_grad():
        for inputs, z0 in reference:
            outputs = landscape.run(point, inputs, blend)
            phis.append(reference.divergence(outputs, z0))
            decisions.append(reference.divergence.decisions(outputs))
    kept = [d for d in decisions if d is not None]
    return torch.cat(phis), torch.cat(kept) if kept else None
