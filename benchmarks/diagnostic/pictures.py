"""The pictures of the documentation: one diagnosis, drawn as ``edgeq diagnose --pictures`` draws it.

python benchmarks/diagnostic/pictures.py [kws_dscnn/w2a8] [--out docs/diagnostic]
"""

import argparse
from pathlib import Path

import torch
from cost import Prepared

from edgeq.basin.pictures import draw
from edgeq.basin.report import lines
from edgeq.pipeline.diagnosis import slice_of

DEFAULT = "kws_dscnn/w2a8"


def main() -> None:
    """Diagnose, draw, and say what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", default=DEFAULT, help="model/bits")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "docs" / "diagnostic")
    given = parser.parse_args()
    torch.set_num_threads(1)
    prepared = Prepared.of(*given.case.split("/"))
    found, remedies = prepared.examine()
    for path in draw(found, given.out, slice_of(found, prepared.probe[:1])):
        print(path.name)
    print("\n".join(lines(found, remedies)))


if __name__ == "__main__":
    main()
