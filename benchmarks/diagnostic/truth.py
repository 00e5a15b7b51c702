"""What a case really was, by its scores on labelled test samples.

A score is a share: top-1 accuracy for classes and tokens; explained variance, accuracy of the nearest class mean, or
F1 of the detections for outputs that are no classes.
- *loses*: the score falls by more than one point;
- *repaired* by a remedy: it loses at most one point, or at most a tenth of what the candidate lost;
- class: inside (does not lose), slope (better rounding repairs it), exit (a short QAT does and rounding does not), far.
"""

from typing import Any

CLASSES = ("inside", "slope", "exit", "far")
Row = dict[str, Any]
#: A short QAT: from the best rounding, where that did not repair the case, and from the candidate itself.
TRAINED = ("recovered", "qat")


def drop(row: Row, state: str = "raw") -> float:
    """How much of the float model's score is lost, as a share."""
    t = row["truth"]
    return float(t["float"] - t[state])


def loses(row: Row) -> bool:
    """Whether the candidate as given loses more than one point."""
    return drop(row) > 0.01


def repaired(row: Row, *remedies: str) -> bool:
    """Whether one of the remedies repaired the case; one that was not run did not."""
    limit = max(0.01, 0.1 * drop(row))
    return any(row["truth"].get(remedy) is not None and drop(row, remedy) <= limit for remedy in remedies)


def truth(row: Row) -> str:
    """What the case really was."""
    if not loses(row):
        return "inside"
    if repaired(row, "rounding", "repaired"):
        return "slope"
    return "exit" if repaired(row, *TRAINED) else "far"
