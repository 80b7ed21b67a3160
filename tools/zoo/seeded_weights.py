"""Seeded weights that keep activations near 1 and leave nothing trivial to optimise away.

A fresh module has identity norms, zero biases and BatchNorm statistics of 0 and 1: a compiler
could drop half of it and still be right. The order of the draws is part of the models: another
order gives other weights under the same names.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from tools.zoo.recipe import SEED

CALIBRATION_BATCHES = 2


def _uniform(like: torch.Tensor, low: float, high: float, draws: torch.Generator) -> torch.Tensor:
    return torch.rand(like.shape, generator=draws) * (high - low) + low


def _normal(like: torch.Tensor, deviation: float, draws: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=draws) * deviation


@torch.no_grad()
def seed_convnet(module: nn.Module, calibration_shape: tuple[int, ...]) -> nn.Module:
    """Seed a convolutional network and measure its BatchNorm statistics on seeded noise."""
    torch.manual_seed(SEED)
    draws = torch.Generator().manual_seed(SEED)
    for layer in module.modules():
        _seed_layer(layer, draws)
    for name, scale in module.named_parameters():
        if name.endswith(".gamma"):  # layer scale: at its initial 1e-6 a block does nothing
            scale.copy_(_uniform(scale, 0.1, 0.4, draws))
    module.eval()
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    if norms:
        _measure_statistics(module, norms, calibration_shape, draws)
    return module


def _seed_layer(layer: nn.Module, draws: torch.Generator) -> None:
    if isinstance(layer, nn.BatchNorm2d):
        layer.weight.copy_(_uniform(layer.weight, 0.6, 1.4, draws))
        layer.bias.copy_(_normal(layer.bias, 0.1, draws))
    elif isinstance(layer, nn.LayerNorm):
        layer.weight.copy_(_uniform(layer.weight, 0.7, 1.3, draws))
        layer.bias.copy_(_normal(layer.bias, 0.05, draws))
    elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        layer.weight.copy_(_normal(layer.weight, math.sqrt(1.5 / _fan_in(layer)), draws))
        if layer.bias is not None:
            layer.bias.copy_(_normal(layer.bias, 0.05, draws))


def _fan_in(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    """How many products one output element sums."""
    weight = layer.weight
    if isinstance(layer, nn.ConvTranspose2d):
        return weight.shape[0] * weight[0, 0].numel() / layer.stride[0] ** 2
    return weight[0].numel()


def _measure_statistics(
    module: nn.Module,
    norms: list[nn.BatchNorm2d],
    shape: tuple[int, ...],
    draws: torch.Generator,
) -> None:
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
        norm.train()
    for _ in range(CALIBRATION_BATCHES):
        module(torch.randn(shape, generator=draws))
    for norm in norms:  # moved a little, so that the statistics do not whiten exactly
        norm.running_mean.add_(_normal(norm.running_mean, 0.05, draws) * norm.running_var.sqrt())
        norm.running_var.mul_(_uniform(norm.running_var, 0.85, 1.15, draws)).clamp_(min=1e-3)
        norm.momentum = 0.1
        norm.eval()


@torch.no_grad()
def seed_vision_transformer(module: nn.Module) -> nn.Module:
    """Seed the norms, linear layers and embeddings of a ViT."""
    torch.manual_seed(SEED)
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm):
            layer.weight.uniform_(0.7, 1.3)
            layer.bias.normal_(0, 0.05)
        elif isinstance(layer, nn.Linear):
            layer.weight.normal_(0, 0.7 / math.sqrt(layer.in_features))
            if layer.bias is not None:
                layer.bias.normal_(0, 0.05)
    for name, parameter in module.named_parameters():
        if name in ("cls_token", "pos_embed"):
            parameter.normal_(0, 0.2)
    return module.eval()


@torch.no_grad()
def enliven_transformer(module: nn.Module) -> nn.Module:
    """Give norms and biases of a fresh transformers model some life.

    Its own initialisation draws weights from N(0, 0.02) and leaves the norms at identity.
    """
    for name, parameter in module.named_parameters():
        is_norm, is_bias = "norm" in name.lower(), name.endswith("bias")
        if is_norm and name.endswith("weight"):
            parameter.uniform_(0.7, 1.3)
        elif is_bias:
            parameter.normal_(0, 0.05 if is_norm else 0.02)
        elif parameter.dim() == 2 and "embed" not in name and "lm_head" not in name:
            parameter.mul_(1.5)
    return module.eval()
