"""Silero's voice detector at 16 kHz as a PyTorch module, its weights read from the ONNX file.

As in its source the spectrum's basis is a buffer, which tools that replace layers leave in float. The LSTM's step is
written out as two linear layers, so that they find them.
"""

import torch
from torch import nn
from torch.nn import functional

_BINS = 129


class Step(nn.Module):
    """A step of an LSTM: [N, 128] input, hidden and cell state -> the next hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(128, 512), nn.Linear(128, 512)

    def forward(self, x: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor) -> torch.Tensor:
        inside, forget, new, out = (self.ih(x) + self.hh(hidden)).chunk(4, 1)
        cell = forget.sigmoid() * cell + inside.sigmoid() * new.tanh()
        return out.sigmoid() * cell.tanh()


class VoiceDetector(nn.Module):
    """Inputs [N, 576] samples and [2, N, 128] state; output [N, 1] probability. The next state is not told."""

    basis: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("basis", torch.zeros(2 * _BINS, 1, 256))
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((_BINS, 128, 1), (128, 64, 2), (64, 64, 2), (64, 128, 1)):
            layers += [nn.Conv1d(inputs, outputs, 3, stride, 1), nn.ReLU()]
        self.encoder = nn.Sequential(*layers)
        self.step = Step()
        self.decoder = nn.Sequential(nn.ReLU(), nn.Conv1d(128, 1, 1), nn.Sigmoid())

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        padded = functional.pad(x, (0, 64), "reflect").unsqueeze(1)
        real, imaginary = functional.conv1d(padded, self.basis, stride=128).chunk(2, 1)
        encoded = self.encoder((real**2 + imaginary**2).sqrt()).squeeze(-1)
        return self.decoder(self.step(encoded, state[0], state[1]).unsqueeze(-1)).squeeze(-1)


def voice_detector() -> nn.Module:
    """The module without its weights."""
    return VoiceDetector()


def read(module: nn.Module, path: str) -> None:
    """Weights by their names in the file, which are those of the source."""
    import onnx
    from onnx import numpy_helper

    state = {}
    for tensor in onnx.load(path).graph.initializer:
        name = tensor.name.removeprefix("model.").replace("reparam_conv.", "")
        state[_NAMES.get(name, name)] = torch.from_numpy(numpy_helper.to_array(tensor).copy())
    module.load_state_dict(state)


_NAMES = {
    "stft.forward_basis_buffer": "basis",
    **{f"encoder.{i}.{kind}": f"encoder.{2 * i}.{kind}" for i in (1, 2, 3) for kind in ("weight", "bias")},
    **{f"decoder.rnn.{kind}_{side}": f"step.{side}.{kind}" for side in ("ih", "hh") for kind in ("weight", "bias")},
    "decoder.decoder.2.weight": "decoder.1.weight",
    "decoder.decoder.2.bias": "decoder.1.bias",
}
