"""The programs of benchmarks/torch_import.py. Needs PyTorch, and what tools/zoo needs.

Weights are random throughout; the networks written here have an open batch or sequence, types and
operators that the development models lack.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from tools.zoo import catalog
from tools.zoo.places import Zoo

# Not lstm_bi2_asr: Relax's front end writes its 100 steps out, and six minutes do not compile them.
ZOO = (
    *("resnet50", "mobilenetv2_100", "efficientnet_b0", "deit_tiny_patch16_224"),
    *("swin_tiny_patch4_window7_224", "llama_4l512_s64", "unet_convtranspose_256"),
)


@dataclass(frozen=True)
class Program:
    """A module in eval mode, its example inputs, and which of their sizes are open."""

    module: nn.Module
    inputs: tuple[Any, ...]
    dims: tuple[Any, ...] | None = None


class _Encoder(nn.Module):
    """Token ids to the scores of five classes: embeddings, two encoder layers, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(1000, 256), nn.Embedding(512, 256)
        layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(256, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.layers(x).mean(1))


class _Attention(nn.Module):
    """Attention with a mask of numbers, and causal attention."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        attention = nn.functional.scaled_dot_product_attention
        return {"masked": attention(q, k, v, mask), "causal": attention(q, k, v, is_causal=True)}


class _Mixed(nn.Module):
    """Group norm, bilinear resize, reflected pads, einsum, top k, and inputs in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.larger = nn.GroupNorm(2, 8), nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, images: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.larger(self.norm(images["left"]) + images["right"])
        x = nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        products = torch.einsum("bchw,bdhw->bcd", x, x)
        return products.cumsum(-1), products.topk(2).values


class _Branch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))


def _conv() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU6()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.Hardswish()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def _hand_written() -> Mapping[str, Callable[[], Program]]:
    batch, sequence = Dim("batch", min=1, max=64), Dim("sequence", min=2, max=512)
    normal = torch.randn
    ids = torch.randint(0, 1000, (2, 64))
    heads = (2, 4, 64, 32)
    images = {"left": normal(2, 8, 24, 20), "right": normal(2, 8, 24, 20)}
    return {
        "conv_open_batch": lambda: Program(_conv(), (normal(2, 3, 64, 64),), ({0: batch},)),
        "conv_half": lambda: Program(_conv().half(), (normal(1, 3, 64, 64).half(),)),
        "encoder": lambda: Program(_Encoder(), (ids,)),
        "encoder_open": lambda: Program(_Encoder(), (ids,), ({0: batch, 1: sequence},)),
        "attention": lambda: Program(
            _Attention(), (normal(heads), normal(heads), normal(heads), normal(64, 64))
        ),
        "lstm": lambda: Program(
            nn.LSTM(64, 128, 2, batch_first=True, bidirectional=True), (normal(1, 50, 64),)
        ),
        "gru": lambda: Program(nn.GRU(64, 128, batch_first=True), (normal(1, 50, 64),)),
        "mixed": lambda: Program(_Mixed(), (images,)),
        "branch": lambda: Program(_Branch(), (normal(64, 64),)),
    }


NAMES = (*ZOO, *_hand_written())


def program(name: str, zoo: Path) -> Program:
    """One of NAMES; what a development model is made of may lie in the folder `zoo`."""
    torch.manual_seed(0)
    if name not in ZOO:
        return _hand_written()[name]()
    recipes = importlib.import_module(f"tools.zoo.{catalog.find(name).recipes}").RECIPES
    recipe = recipes[name](Zoo(zoo))
    return Program(recipe.module, tuple(recipe.inputs.values()))


def save(name: str, zoo: Path, folder: Path) -> None:
    """Write the program to `folder`, and arrays: what it takes, and what PyTorch answers."""
    made = program(name, zoo)
    module = made.module.eval()
    exported = torch.export.export(module, made.inputs, dynamic_shapes=made.dims)
    torch.export.save(exported, folder / f"{name}.pt2")
    with torch.no_grad():
        answers = module(*made.inputs)
    for kind, values in {"inputs": made.inputs, "answers": answers}.items():
        arrays = [value.numpy() for value in pytree.tree_leaves(values)]
        np.savez(folder / f"{name}-{kind}.npz", *arrays)
