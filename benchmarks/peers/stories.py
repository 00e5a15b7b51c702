"""The 260k-parameter Llama with its head as a layer of its own, so that every tool that replaces layers finds it."""

import importlib.util
import os
from pathlib import Path

import torch
from torch import nn


def _source() -> type[nn.Module]:
    folder = Path(os.environ.get("EDGEQ_ASSETS", Path(__file__).resolve().parents[3] / "shared" / "assets"))
    spec = importlib.util.spec_from_file_location("stories_model", folder / "stories260k" / "model.py")
    assert spec is not None
    assert spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    found: type[nn.Module] = source.TinyLlama
    return found


def build() -> nn.Module:
    """[samples, 128] tokens -> [samples, 128, 512] scores; its state dict may lack the head, which is the embedding."""
    plain = _source()

    class Llama(plain):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 512, bias=False)

        def load_state_dict(self, state: dict[str, torch.Tensor], **options: object) -> object:
            return super().load_state_dict({"head.weight": state["tok_embeddings.weight"]} | state, **options)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            places = torch.arange(tokens.shape[1]).float()
            turns = torch.outer(places, 1 / (10000 ** (torch.arange(0, self.hd, 2) / self.hd)))
            x = self.tok_embeddings(tokens)
            for layer in self.layers:
                x = layer(x, turns.cos(), turns.sin())
            return self.head(self.norm(x))

    return Llama()
