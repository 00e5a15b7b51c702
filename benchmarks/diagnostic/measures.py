"""What a user would otherwise go by: SQNR, weight error, cosine of layer outputs, Hessian trace x error."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import fx
from torch.nn import functional

from edgeq.basin.divergence import Reference
from edgeq.basin.landscape import Landscape
from edgeq.basin.simulated import SimulatedModel


@dataclass(frozen=True)
class Trace:
    """Mean diagonal of the Fisher matrix by weight, from labels drawn from the float model's own distribution.

    For outputs that are no classes: of the Gauss-Newton matrix, by random projections of the outputs.
    """

    by_weight: dict[str, float]

    @classmethod
    def of(cls, landscape: Landscape, reference: Reference, size: int = 8, batches: int = 12) -> "Trace":
        generator = torch.Generator().manual_seed(0)
        sums = dict.fromkeys((layer.weight for layer in landscape.layers), 0.0)
        parts = list(reference.rebatched(size))[:batches]
        for inputs, z0 in parts:
            leaves = {name: w.clone().requires_grad_() for name, w in landscape.origin.items()}
            outputs = landscape.run(leaves, inputs, 0.0)
            z = outputs[0]
            if reference.divergence.task == "values":
                projected = [(o * torch.randn(o.shape, generator=generator)).sum() for o in outputs]
                variances = reference.divergence.variances
                loss = torch.stack([p / v**0.5 for p, v in zip(projected, variances, strict=True)]).sum()
            else:
                z, known = z.flatten(0, -2), functional.softmax(z0[0].flatten(0, -2), -1)
                drawn = torch.multinomial(known, 1, generator=generator)[:, 0]
                loss = functional.cross_entropy(z, drawn, reduction="sum")
            found = torch.autograd.grad(loss, [leaves[name] for name in sums])
            for name, g in zip(sums, found, strict=True):
                sums[name] += float(g.square().sum()) / g.numel() / len(z)
        return cls({name: total / len(parts) for name, total in sums.items()})


def usual_measures(model: SimulatedModel, landscape: Landscape, reference: Reference, trace: Trace) -> dict[str, float]:
    """The measures of one candidate; of layers the mean and the worst."""
    d = landscape.difference()
    weights = {layer.weight: landscape.origin[layer.weight] for layer in landscape.layers}
    errors = {name: float(d[name].square().sum()) for name in weights}
    ratios = [10 * np.log10(max(errors[name], 1e-30) / float(w.square().sum())) for name, w in weights.items()]
    cosines, noise = _outputs(model, landscape, reference)
    size = sum(w.numel() for w in weights.values())
    return {
        "bits": float(min(layer.bits for layer in landscape.layers)),
        "weight_sqnr_mean": -float(np.mean(ratios)),
        "weight_sqnr_worst": -float(np.max(ratios)),
        "weight_mse": sum(errors.values()) / size,
        "cosine_mean": float(np.mean(cosines)),
        "cosine_worst": float(np.min(cosines)),
        "output_sqnr": noise,
        "hessian": sum(trace.by_weight[name] * errors[name] for name in weights) / 2,
    }


def _outputs(model: SimulatedModel, landscape: Landscape, reference: Reference) -> tuple[list[float], float]:
    inputs, z0 = next(iter(reference))
    found = []
    with torch.no_grad():
        for point, blend in ((landscape.origin, 0.0), (landscape.deployed, 1.0 if landscape.activations else 0.0)):
            model.stand(point, blend)
            keep = _Keep(model.module, {unit.name for unit in model.units})
            keep.run(*inputs)
            found.append(keep.found)
        z = landscape.run(landscape.deployed, inputs, 1.0 if landscape.activations else 0.0)
    cosines = [
        float(functional.cosine_similarity(a.flatten(1), found[1][name].flatten(1)).mean())
        for name, a in found[0].items()
    ]
    error = float((z[0] - z0[0]).square().sum() / z0[0].square().sum())
    return cosines, -10 * float(np.log10(max(error, 1e-30)))


class _Keep(fx.Interpreter):
    """Keeps the layers' outputs."""

    def __init__(self, module: fx.GraphModule, names: set[str]) -> None:
        super().__init__(module)
        self.names = names
        self.found: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.op == "call_function" and n.meta.get("onnx") in self.names and isinstance(result, torch.Tensor):
            self.found[n.meta["onnx"]] = result
        return result
