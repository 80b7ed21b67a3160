"""What a family module hands to `save`: a torch module and how to turn it into ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from tools.zoo.places import Zoo

SEED = 20240607

Axes = Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class Recipe:
    """A module in eval mode, example inputs, and the settings of the export.

    `dynamo` is PyTorch's current exporter. `torchscript` is the older one, for what only it
    does: dynamic axes without guards on the example's sizes, BatchNorm left unfolded, and the
    compact LSTM operator.
    """

    module: nn.Module
    inputs: Mapping[str, torch.Tensor]
    outputs: tuple[str, ...]
    opset: int = 18
    exporter: Literal["dynamo", "torchscript"] = "dynamo"
    dynamic_axes: Axes | None = None
    keep_batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.exporter == "dynamo" and (self.dynamic_axes or self.keep_batch_norm):
            raise ValueError("dynamic axes and kept BatchNorm need the torchscript exporter")
        if unknown := set(self.dynamic_axes or ()) - {*self.inputs, *self.outputs}:
            raise ValueError(f"dynamic axes of {sorted(unknown)}, which is no input or output")


Recipes = Mapping[str, Callable[[Zoo], Recipe]]
