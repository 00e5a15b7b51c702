"""The demonstration's model and data, which ship inside the package.

``digits.onnx`` is trained by ``python -m edgeq.demo.train``. ``train.npz`` and ``evaluation.npz`` are scikit-learn's
digits (the UCI optical recognition test set, 1,797 images of 8 x 8), split with a seed: x float32 (samples, 1, 8, 8),
y int64.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
MODEL = FOLDER / "digits.onnx"
TRAIN = FOLDER / "train.npz"
EVALUATION = FOLDER / "evaluation.npz"
