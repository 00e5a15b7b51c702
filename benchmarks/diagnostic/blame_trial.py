"""Does blame point at the right layers? A fifth of them left in float, chosen by blame and by the usual measures."""

import numpy as np
import torch
from candidates import Bench

from edgeq.basin.blame import blame
from edgeq.basin.divergence import Reference, altitude
from edgeq.basin.landscape import Landscape


def blame_trial(bench: Bench, landscape: Landscape, reference: Reference) -> dict[str, object]:
    """Accuracy with a fifth of the layers left in float, chosen by blame and by the usual measures."""
    few = reference.first(64)
    count = max(1, round(len(landscape.layers) / 5))
    shares = blame(landscape, few).by_layer
    names = [layer.name for layer in landscape.layers]
    alone = {
        layer.name: float(altitude(landscape, landscape.at(1.0, [layer]), few, 0.0)[0].mean())
        for layer in landscape.layers
    }
    noise = {
        layer.name: float(
            (landscape.deployed[layer.weight] - landscape.origin[layer.weight]).square().sum()
            / landscape.origin[layer.weight].square().sum()
        )
        for layer in landscape.layers
    }
    generator = np.random.default_rng(0)
    chosen = {"blame": best_of(shares, count), "alone": best_of(alone, count), "sqnr": best_of(noise, count)}
    found: dict[str, object] = {"layers": len(names), "count": count}
    for rule, kept in chosen.items():
        found[rule] = bench.score(landscape, without(landscape, kept), 0.0)
    drawn = [set(generator.choice(names, count, replace=False)) for _ in range(5)]
    found["random"] = float(np.mean([bench.score(landscape, without(landscape, k), 0.0) for k in drawn]))
    return found


def best_of(scores: dict[str, float], count: int) -> set[str]:
    return set(sorted(scores, key=lambda name: -scores[name])[:count])


def without(landscape: Landscape, kept: set[str]) -> dict[str, torch.Tensor]:
    """The candidate with those layers in float."""
    return landscape.at(1.0, [layer for layer in landscape.layers if layer.name not in kept])
