"""Spectra and windows of audio front ends."""

import math

import torch
from torch import Tensor

from edgeq.graph.ops.op import Op
from edgeq.graph.ops.types import torch_type


def dft(
    x: Tensor,
    length: Tensor | int | None = None,
    axis_input: Tensor | int | None = None,
    *,
    axis: int | None = None,
    inverse: int = 0,
    onesided: int = 0,
    opset: int = 20,
) -> Tensor:
    """Discrete Fourier transform along an axis of x, whose last axis holds 1 (real) or 2 (complex) parts.

    The axis is an attribute (1 by default) before opset 20, an input (-2 by default) since.
    """
    fallback = 1 if opset < 20 else -2
    dim = int(axis_input) if axis_input is not None else axis if axis is not None else fallback
    dim = dim % x.dim()
    natural = 2 * (x.shape[dim] - 1) if inverse and onesided else x.shape[dim]
    count = natural if length is None else int(length)
    if inverse and onesided:
        samples: Tensor = torch.fft.irfft(torch.view_as_complex(x.contiguous()), count, dim)
        return samples.unsqueeze(-1)
    signal = x[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
    if inverse:
        parts: Tensor = torch.view_as_real(torch.fft.ifft(signal, count, dim))
        return parts
    if onesided and not signal.is_complex():
        return torch.view_as_real(torch.fft.rfft(signal, count, dim))
    spectrum = torch.fft.fft(signal, count, dim)
    real: Tensor = torch.view_as_real(spectrum.narrow(dim, 0, count // 2 + 1) if onesided else spectrum)
    return real


def stft(
    x: Tensor,
    step: Tensor | int,
    window: Tensor | None = None,
    length: Tensor | int | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """Fourier transforms of windows of x (batch, time[, 1 or 2]) that start every ``step`` samples."""
    size = int(length) if length is not None else window.shape[0] if window is not None else x.shape[1]
    parts = x if x.dim() == 3 else x.unsqueeze(-1)
    signal = parts[..., 0] if parts.shape[-1] == 1 else torch.view_as_complex(parts.contiguous())
    frames = signal.unfold(1, size, int(step))
    if window is not None:
        frames = frames * window
    if onesided and not frames.is_complex():
        return torch.view_as_real(torch.fft.rfft(frames))
    spectrum = torch.fft.fft(frames)
    return torch.view_as_real(spectrum[..., : size // 2 + 1] if onesided else spectrum)


def _cosine_window(size: Tensor | int, periodic: int, number: int, weights: tuple[float, ...]) -> Tensor:
    count = int(size)
    device = size.device if isinstance(size, Tensor) else torch.device("cpu")
    angle = 2 * math.pi * torch.arange(count, dtype=torch.float64, device=device) / (count if periodic else count - 1)
    total = torch.zeros_like(angle)
    for order, weight in enumerate(weights):
        total = total + weight * torch.cos(order * angle)
    return total.to(torch_type(number))


def hann_window(size: Tensor | int, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """Raised cosine."""
    return _cosine_window(size, periodic, output_datatype, (0.5, -0.5))


def hamming_window(size: Tensor | int, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """Raised cosine on a pedestal."""
    return _cosine_window(size, periodic, output_datatype, (25 / 46, -21 / 46))


def blackman_window(size: Tensor | int, *, output_datatype: int = 1, periodic: int = 1) -> Tensor:
    """Three-term cosine sum."""
    return _cosine_window(size, periodic, output_datatype, (0.42, -0.5, 0.08))


def mel_weight_matrix(
    bins: Tensor | int,
    dft_length: Tensor | int,
    sample_rate: Tensor | int,
    lower: Tensor | float,
    upper: Tensor | float,
    *,
    output_datatype: int = 1,
) -> Tensor:
    """Triangles that turn a spectrum (dft_length / 2 + 1) into mel bins, (spectrum, bins)."""
    count, spectrum = int(bins), int(dft_length) // 2 + 1
    low, high = (2595 * math.log10(1 + float(edge) / 700) for edge in (lower, upper))
    mels = torch.arange(count + 2, dtype=torch.float64) * (high - low) / (count + 2) + low
    hertz = 700 * (10 ** (mels / 2595) - 1)
    places = torch.floor((int(dft_length) + 1) * hertz / int(sample_rate))
    left, centre, right = places[:-2], places[1:-1], places[2:]
    bin_ = torch.arange(spectrum, dtype=torch.float64).unsqueeze(1)
    rising = (bin_ - left) / torch.where(centre > left, centre - left, torch.ones_like(left))
    falling = (right - bin_) / torch.where(right > centre, right - centre, torch.ones_like(left))
    at_centre = (bin_ == centre) & (centre == left)
    up = torch.where((bin_ >= left) & (bin_ <= centre) & (centre > left), rising, 0.0)
    down = torch.where((bin_ >= centre) & (bin_ < right), falling, 0.0)
    weights = torch.where(bin_ <= centre, torch.where(at_centre, torch.ones_like(up), up), down)
    device = bins.device if isinstance(bins, Tensor) else torch.device("cpu")
    return weights.to(torch_type(output_datatype)).to(device)


OPS = {
    ("", "BlackmanWindow"): Op(blackman_window, static=(0,)),
    ("", "DFT"): Op(dft, static=(1, 2)),
    ("", "HammingWindow"): Op(hamming_window, static=(0,)),
    ("", "HannWindow"): Op(hann_window, static=(0,)),
    ("", "MelWeightMatrix"): Op(mel_weight_matrix, static=(0, 1, 2, 3, 4)),
    ("", "STFT"): Op(stft, static=(1, 3)),
}
