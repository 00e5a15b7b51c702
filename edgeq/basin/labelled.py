"""What labels say beside the diagnosis, where there are any: accuracy and task loss. No verdict rests on them."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from edgeq.basin.divergence import Outputs, Reference
from edgeq.basin.landscape import Landscape

Labels = npt.NDArray[np.integer]


def accuracies(
    reference: Reference, decisions: Mapping[str, npt.NDArray[np.int64] | None], labels: Labels
) -> dict[str, float]:
    """Share of right decisions.

    Args:
        reference: the float model's outputs.
        decisions: of each state of the candidate, (samples, positions); None is left out.
        labels: (samples,) or (samples, positions).
    """
    chosen = [reference.divergence.decisions(z0) for z0 in reference.outputs]
    known = {"float": torch.cat([c for c in chosen if c is not None]).numpy(), **decisions}
    flat = labels.reshape(len(labels), -1)
    return {state: float((d == flat).mean()) for state, d in known.items() if d is not None and d.shape == flat.shape}


def losses(reference: Reference, states: Mapping[str, Landscape], labels: Labels) -> dict[str, float]:
    """Mean cross-entropy of the labels, nats a decision; one forward pass for each state but the float model.

    Args:
        reference: the float model's outputs.
        states: of the candidate.
        labels: (samples,) or (samples, positions); empty if they do not fit the outputs.
    """
    flat = torch.from_numpy(labels.reshape(len(labels), -1).astype(np.int64))
    if tuple(flat.shape) != (len(reference), reference.outputs[0][0][0, ..., 0].numel()):
        return {}
    found = {"float": _cross_entropy(reference.outputs, flat)}
    for state, landscape in states.items():
        blend = 1.0 if landscape.activations else 0.0
        with torch.no_grad():
            outputs = tuple(landscape.run(landscape.deployed, inputs, blend) for inputs, _ in reference)
        found[state] = _cross_entropy(outputs, flat)
    return found


def _cross_entropy(outputs: tuple[Outputs, ...], labels: torch.Tensor) -> float:
    logits = torch.cat([z[0].reshape(-1, z[0].shape[-1]) for z in outputs]).double()
    return float(functional.cross_entropy(logits, labels.flatten()))
