"""``--method auto``: from the cheapest method to the next, only while held-out samples say that it is worth it.

What leads it is where the loss comes from. The distance of the quantized model from the float one is measured on
samples that no method has seen, and once more with the weights left in float: what the activations cost alone. How much
is left to gain is told by the divergence; which of two plans is the better one, for class scores, by the divergence at
a higher temperature (``edgeq.task``), which a hundred samples tell more surely. Where
the activations have most of the loss their ranges are chosen anew. On fine activations no rounding of weights gets far
below what they cost alone: where they have nearly all of the loss the search ends, unless a method has come below that
cost, which shows that part of it can be given back, or much is left: second-order rounding, whose targets make up for
the errors before a layer, may give it back (in a recurrent model it does). Coarse ones also shift what the layers after
them see, and that other methods can give back.
Otherwise, in order of cost: equalization, absorption, bias correction, statistics, GPTQ, GPTQ with variances. Block
reconstruction is not tried: it takes longer than all others together, and while it was tried it was kept in two of the
sixty cells of ``benchmarks/peers.py``, where the test set shows no gain.

The nearest plan is kept, with one exception. A hundred samples do not always tell codes of second-order rounding, which
bring every layer nearer to the float model's, from codes rounded to nearest whose means were corrected: where the
latter's lead is within chance the former are kept.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeq.calibration.divergence import Distance
from edgeq.calibration.ranges import Ranges
from edgeq.graph.graph import Graph
from edgeq.plan.plan import Plan
from edgeq.task import SOFT

#: A divergence (nats, or relative squared error) so small that no method is worth its time.
GOOD = 0.005
#: Up to here what the activations cost is left as it is.
SMALL = 0.02
#: Nearer than this factor to what the activations cost alone, better rounding of weights has nothing left to bring.
NEAR = 1.15
#: What lowers the loss to this part is worth its time.
WORTH = 0.95
#: Where the activations have at least this share of the loss their ranges are chosen anew.
MOSTLY = 0.5
#: Activations of so many bits and more are fine.
FINE = 8
#: What is tried after round to nearest, in order of cost; the codes of the costly ones are trusted more.
CHEAP = ("bias", "statistics")
COSTLY = ("gptq", "gptq+variance")


@dataclass(frozen=True)
class Trial:
    """One thing that was tried.

    Attributes:
        method: what.
        loss: divergence from the float model on held-out samples; None if there was nothing to judge it on.
        soft: what chose between the trials: for class scores the divergence at a higher temperature, else the loss.
        kept: whether it is what the release holds.
    """

    method: str
    loss: float | None
    soft: float | None = None
    kept: bool = False

    def told(self, softened: bool) -> str:
        """In words, with what chose where that is another number."""
        if self.loss is None:
            return self.method
        return f"{self.method} {self.loss:.3g}" + (f" ({self.soft:.3g})" if softened else "")


@dataclass(frozen=True)
class Story:
    """How the integers were chosen, for the report.

    Attributes:
        trials: in order; one of them is kept.
        activations: the divergence with the weights left in float, or None if it was not asked.
        reason: why nothing more was tried.
    """

    trials: tuple[Trial, ...]
    activations: float | None = None
    reason: str = ""

    def __str__(self) -> str:
        softened = len(self.trials) > 1 and any(trial.soft != trial.loss for trial in self.trials)
        tried = "tried " + ", ".join(trial.told(softened) for trial in self.trials)
        if softened:
            tried += f"; in parentheses softened by temperature {SOFT:g}, which chose"
        alone = "" if self.activations is None else f"; activations alone {self.activations:.3g}"
        return f"{tried}{alone}; {self.reason}" if self.reason else f"{tried}{alone}"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A plan with the graph that it quantizes (equalized, absorbed, or the model's) and the ranges it was made from."""

    graph: Graph
    ranges: Ranges
    plan: Plan


@dataclass(frozen=True, eq=False)
class Workshop:
    """What the search can ask for; each answer is computed once and stored.

    Attributes:
        plan: (method, graph, ranges) -> plan.
        distance: (candidate, weights quantized) -> how far from the float model on held-out samples.
        other_ranges: the ranges by another observer; None if the user named one.
        equalized: the graph with equalized weights and its ranges; None if there is no pair to equalize.
        absorbed: the graph with high biases moved on and its ranges; None if no range shrinks by it.
    """

    plan: Callable[[str, Graph, Ranges], Plan]
    distance: Callable[[Candidate, bool], Distance]
    other_ranges: Callable[[], Ranges] | None
    equalized: Callable[[Graph, Ranges], tuple[Graph, Ranges] | None]
    absorbed: Callable[[Graph, Ranges], tuple[Graph, Ranges] | None]


def search(shop: Workshop, graph: Graph, ranges: Ranges) -> tuple[Candidate, Story]:
    """The candidate to keep, and the story of the search."""
    run = _Search(shop, Candidate(graph, ranges, shop.plan("nearest", graph, ranges)))
    reason = run.reason()
    if not reason:
        run.ask_activations()
        reason = _first_reason(run)
    trials = tuple(replace(trial, kept=trial.method == run.kept) for trial in run.trials)
    alone = None if run.activations is None else run.activations.divergence
    return run.best, Story(trials, alone, "; ".join(filter(None, (reason, run.preferred()))))


def _first_reason(run: "_Search") -> str:
    run.try_other_ranges()
    run.try_equalization()
    run.try_absorption()
    for name in (*CHEAP, *COSTLY):
        if run.reason():
            break
        if name == "bias" and not run.best.plan.activations:
            continue  # of weights alone the biases are the model's own
        run.try_method(name)
    return run.reason() or "no method is left but --method brecq, which takes minutes and is seldom nearer"


class _Search:
    """The best so far and what was tried."""

    def __init__(self, shop: Workshop, first: Candidate) -> None:
        self.shop, self.best, self.kept = shop, first, "nearest"
        self.distance = shop.distance(first, True)
        self.trials = [_trial("nearest", self.distance)]
        self.activations: Distance | None = None
        self.prefix = ""
        # Whether the best has codes of second-order rounding, and what it replaced though that was nearer.
        self.trusted = False
        self.passed_over: Trial | None = None
        # What was built on before the weights were equalized, and its prefix.
        self.before: tuple[Candidate, str] | None = None

    def ask_activations(self) -> None:
        """Measure what the activations cost alone."""
        if self.best.plan.activations:
            self.activations = self.shop.distance(self.best, False)

    @property
    def alone(self) -> float:
        """The activations' own distance, by which candidates are compared; 0 where it was not asked."""
        return 0.0 if self.activations is None else self.activations.soft

    def reason(self) -> str:
        """Why nothing more is worth trying; or ""."""
        if self.distance.divergence <= GOOD:
            return "as good as float"
        return (
            "what is left comes from the activations, not from the weights' rounding" if self.only_activations() else ""
        )

    def preferred(self) -> str:
        """What is said where the nearest plan is not the one that is kept; or ""."""
        other = self.passed_over
        if other is None or other.soft is None or other.soft >= self.distance.soft:
            return ""
        return f"{self.kept} is kept before {other.method}, whose lead is within chance"

    def only_activations(self) -> bool:
        """Whether better rounding of weights has nothing left to bring.

        What is below what the activations cost alone shows that part of that can be given back.
        """
        nearly_all = self.alone <= self.distance.soft <= NEAR * self.alone
        return self.fine() and self.distance.divergence <= SMALL and nearly_all

    def fine(self) -> bool:
        """Whether no activation is coarse."""
        return all(grid.bits >= FINE for grid in self.best.plan.activations.values())

    def try_other_ranges(self) -> None:
        """Where the activations have most of the loss: ranges of another observer."""
        if self.shop.other_ranges is None or self.alone < MOSTLY * self.distance.soft:
            return
        ranges = self.shop.other_ranges()
        found = replace(self.best, ranges=ranges, plan=self.shop.plan("nearest", self.best.graph, ranges))
        if self._offer(f"nearest on {ranges.observer} ranges", found):
            self.prefix = f" on {ranges.observer} ranges"
            self.ask_activations()

    def try_equalization(self) -> None:
        """Equalized weights, where there are pairs; not at the cost of coarse activations, which no method mends."""
        made = self.shop.equalized(self.best.graph, self.best.ranges)
        if made is None:
            return
        name, found = f"equalization{self.prefix}", Candidate(*made, self.shop.plan("nearest", *made))
        before = self.best, self.prefix
        if not self.fine() and self.shop.distance(found, False).soft > self.alone:
            self.trials.append(_trial(name, self.shop.distance(found, True)))
        elif self._offer(name, found):
            self.prefix, self.before = f" after equalization{self.prefix}", before
            self.ask_activations()

    def try_absorption(self) -> None:
        """Smaller values between layers, where there are high biases: often they are what equalization leaves."""
        made = None if self.distance.divergence <= GOOD else self.shop.absorbed(self.best.graph, self.best.ranges)
        if made is None:
            return
        found = Candidate(*made, self.shop.plan("nearest", *made))
        if self._offer(f"absorption{self.prefix}", found):
            self.prefix = f" after absorption{self.prefix}"
            self.ask_activations()

    def try_method(self, name: str) -> None:
        """Rounding by that method, kept where it is nearer.

        Equalization helps rounding to nearest most: second-order rounding is tried without it too.
        """
        self._try(name, self.best, self.prefix)
        if name == COSTLY[-1] and self.before is not None:
            self._try(name, *self.before)

    def _try(self, name: str, base: Candidate, prefix: str) -> None:
        found = replace(base, plan=self.shop.plan(name, base.graph, base.ranges))
        # Once it is paid for, any gain is kept: GPTQ's codes behind coarse activations gain little, and are no worse.
        self._offer(f"{name}{prefix}", found, enough=1.0, trusted=name in COSTLY)

    def _offer(self, name: str, found: Candidate, enough: float = WORTH, *, trusted: bool = False) -> bool:
        """Whether it is kept: where the distance falls to ``enough`` of the best so far.

        What is trusted is kept in place of what is not unless the samples show that it is farther.
        """
        distance, before = self.shop.distance(found, True), self.distance
        self.trials.append(_trial(name, distance))
        second = trusted and not self.trusted and not distance.shown_above(before)
        if not (distance.soft < enough * before.soft or second):
            return False
        if distance.soft > before.soft:
            self.passed_over = _trial(self.kept, before)
        self.best, self.distance, self.kept, self.trusted = found, distance, name, trusted
        return True


def _trial(name: str, distance: Distance) -> Trial:
    return Trial(name, distance.divergence, distance.soft)
