"""More bits for some layers, where training alone does not bring a model back."""

from dataclasses import replace

from edgeq.plan.bits import Bits
from edgeq.plan.plan import Skeleton

#: In both runtimes' files fewer bits lie in as many, so that these cost nothing there.
_MORE_BITS = 8


def wider(skeleton: Skeleton, layers: tuple[str, ...]) -> Skeleton:
    """The skeleton with more bits for these layers' weights, and for what they read and make.

    Args:
        skeleton: what is quantized.
        layers: named by module path or node.
    """
    named = [unit.name for unit in skeleton.units if unit.weight is not None and {unit.module, unit.name} & {*layers}]
    return replace(skeleton, bits={**skeleton.bits, **{unit: _more(skeleton.bits[unit]) for unit in named}})


def _more(bits: Bits) -> Bits:
    own = bits.activations
    return replace(bits, weights=_MORE_BITS, activations=own and max(own, _MORE_BITS))
