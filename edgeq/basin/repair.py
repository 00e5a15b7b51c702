"""Statistics repair: much of a collapse at 2 and 3 bits is only a shift of each layer's output mean and variance.

For each weighted layer, in order, with everything before it already repaired:
1. the mean m and standard deviation s of every output channel, in the float model and in the candidate;
2. gain g = s_float / s_candidate, limited to [1/2, 3];  the weights' scale takes it: q <- g q, on a grid of step g *
step;
3. the bias takes the rest: b <- g b + m_float - g m_candidate.
No labels. It is the re-estimation of batch-norm statistics for a model whose batch norms are already folded.

The candidate's pass corrects each layer's output where it is computed, so that one pass repairs all layers. On a
healthy model the step can cost: the caller keeps it only where D falls on other samples. Where a layer has one scale
for all channels it gets one gain, and where it has no bias, no shift.
"""

from dataclasses import dataclass, replace

import torch
from torch import fx

from edgeq.basin.landscape import Batches, Landscape, Layer
from edgeq.basin.lockstep import in_step, samples, taken
from edgeq.basin.simulated import SimulatedModel
from edgeq.graph.execute import largest_value
from edgeq.graph.passes.fold_batchnorm import output_axis
from edgeq.plan.ops import channel_axis
from edgeq.plan.plan import Unit

#: Mean and standard deviation of every channel.
Statistics = tuple[torch.Tensor, torch.Tensor]
GAIN = (0.5, 3.0)
#: Below this part of the layer's mean deviation a channel is dead and keeps its gain.
_DEAD = 1e-3
_MEMORY, _FEWEST = 128 * 2**20, 16


@dataclass(frozen=True, eq=False)
class _Correction:
    """What one layer's output needs: gain and shift, (channels,) each."""

    gain: torch.Tensor
    shift: torch.Tensor


def repair(model: SimulatedModel, landscape: Landscape, batches: Batches) -> Landscape:
    """The same candidate with its layers' output statistics matched to the float model's.

    Args:
        model: the module behind the landscape.
        landscape: the candidate.
        batches: unlabelled samples; 256 or more images. Only as many are taken as keep the largest activation under
            128 MiB.
    """
    model.stand(landscape.origin, 0.0)
    # Measured on a batch as it is: a model may take a fixed number of samples, or inputs whose first axis is none.
    per_batch = largest_value(model.graph, model.module, batches[0])
    few = taken(batches, max(_FEWEST, _MEMORY * samples(batches[0]) // per_batch))
    anchors = _anchors(model, landscape)
    wanted: dict[fx.Node, Statistics] = {}
    corrections: dict[fx.Node, _Correction] = {}

    def watch(node: fx.Node, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        wanted[node] = anchors[node].statistics(outputs)
        return outputs

    def correct(node: fx.Node, outputs: list[torch.Tensor]) -> list[torch.Tensor]:
        anchor = anchors[node]
        corrections[node] = fix = _correction(anchor, wanted[node], anchor.statistics(outputs))
        return [z * anchor.spread(fix.gain, z) + anchor.spread(fix.shift, z) for z in outputs]

    with torch.no_grad():
        model.stand(landscape.origin, 0.0)
        in_step(model.module, few, dict.fromkeys(anchors, watch))
        model.stand(landscape.deployed, 1.0 if landscape.activations else 0.0)
        in_step(model.module, few, dict.fromkeys(anchors, correct))
    return _apply(model, landscape, {a.layer.name: (a, corrections[n]) for n, a in anchors.items()})


@dataclass(frozen=True, eq=False)
class _Anchor:
    """Where a layer's raw output is computed."""

    unit: Unit
    layer: Layer

    def statistics(self, outputs: list[torch.Tensor]) -> Statistics:
        """Mean and standard deviation of every channel over all batches, (channels,) each."""
        rows = torch.cat([output.movedim(channel_axis(self.unit.op), 0).flatten(1) for output in outputs], 1)
        return rows.mean(1), rows.std(1)

    def spread(self, per_channel: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        shape = [1] * output.ndim
        shape[channel_axis(self.unit.op)] = -1
        return per_channel.reshape(shape)


def _anchors(model: SimulatedModel, landscape: Landscape) -> dict[fx.Node, _Anchor]:
    """The node after which a unit's matrix product and bias are complete, for units with a weight of their own."""
    layers = {layer.weight: layer for layer in landscape.layers}
    readers = [unit.weight for unit in model.units]
    by_node: dict[str, _Anchor] = {}
    for unit in model.units:
        if unit.weight is None or readers.count(unit.weight) > 1 or unit.op == "ConvTranspose":
            continue
        last = unit.nodes[1] if unit.op == "MatMul" and unit.bias is not None else unit.name
        by_node[last] = _Anchor(unit, layers[unit.weight])
    found: dict[str, fx.Node] = {}
    for node in model.module.graph.nodes:
        if node.op == "call_function" and node.meta.get("onnx") in by_node:
            found[node.meta["onnx"]] = node  # the last one: a bias that the simulation added comes after its product
    return {node: by_node[name] for name, node in found.items()}


def _correction(anchor: _Anchor, wanted: Statistics, found: Statistics) -> _Correction:
    mean, deviation = found
    if anchor.layer.step.numel() == 1:
        ratio = (wanted[1].square().mean() / deviation.square().mean().clamp_min(1e-20)).sqrt().expand_as(mean)
    else:
        alive = deviation > _DEAD * deviation.mean()
        ratio = torch.where(alive, wanted[1] / deviation.clamp_min(1e-20), torch.ones_like(mean))
    gain = ratio.clamp(*GAIN)
    shift = wanted[0] - gain * mean if anchor.layer.bias is not None else torch.zeros_like(mean)
    return _Correction(gain, shift)


def _apply(
    model: SimulatedModel, landscape: Landscape, corrections: dict[str, tuple[_Anchor, _Correction]]
) -> Landscape:
    deployed = dict(landscape.deployed)
    layers = []
    for layer in landscape.layers:
        if layer.name not in corrections:
            layers.append(layer)
            continue
        anchor, fix = corrections[layer.name]
        weight = deployed[layer.weight]
        shape = [1] * weight.ndim
        shape[output_axis(model.graph.node(anchor.unit.name))] = -1
        gain = fix.gain.reshape(shape)
        deployed[layer.weight] = weight * gain
        gain = gain.flatten()[0] if layer.step.numel() == 1 else gain
        layers.append(replace(layer, step=layer.step * gain, gain=layer.gain * gain))
        if layer.bias is not None:
            deployed[layer.bias] = deployed[layer.bias] * fix.gain + fix.shift
    return replace(landscape, layers=tuple(layers), deployed=deployed)
