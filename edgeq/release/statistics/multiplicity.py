"""Many tests at once: Holm's step-down correction.

Passing needs every limit to be kept, so each is tested at the full level (an intersection-union test: the chance of
passing a release that breaks any limit stays under the level). Failing needs only one broken limit, so those p-values
are corrected together: the chance of failing a release that keeps them all stays under the level.
"""

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values (Holm, "A simple sequentially rejective multiple test procedure", 1979), in the same order."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)
