"""The order of the stages, from a trained model to a judged release; only this package and the CLI know all axes.

    load -> lint -> data -> calibrate -> quantize -> export -> audit -> validate -> profile -> gate -> report

Each stage's result lies in the run folder under the hash of what it depends on (``edgeq.run_folder``): an interrupted
run goes on where it stopped, and a changed option redoes only what depends on it.
"""

from edgeq.pipeline.convert import Conversion, convert

__all__ = ["Conversion", "convert"]
