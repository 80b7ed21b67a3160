"""Image classifiers from timm, with seeded weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tools.zoo.places import Zoo
from tools.zoo.recipe import Recipe, Recipes
from tools.zoo.seeded_weights import seed_convnet, seed_vision_transformer
from tools.zoo.torchvision_stub import import_timm

timm = import_timm()

IMAGE = (3, 224, 224)
CALIBRATION_BATCH = 4
INPUT_SEED = 1

KEEP_BATCH_NORM: dict[str, Any] = {
    "exporter": "torchscript",
    "opset": 17,
    "keep_batch_norm": True,
}
DYNAMIC_BATCH: dict[str, Any] = {
    "exporter": "torchscript",
    "opset": 17,
    "dynamic_axes": {"input": {0: "batch"}, "logits": {0: "batch"}},
}


def _recipe(module: torch.nn.Module, settings: dict[str, Any]) -> Recipe:
    image = torch.randn(1, *IMAGE, generator=torch.Generator().manual_seed(INPUT_SEED))
    return Recipe(module, {"input": image}, ("logits",), **settings)


def _convnet(architecture: str, _: Zoo, **settings: Any) -> Recipe:
    module = timm.create_model(architecture, pretrained=False)
    return _recipe(seed_convnet(module, (CALIBRATION_BATCH, *IMAGE)), settings)


def _vision_transformer(architecture: str, _: Zoo, **settings: Any) -> Recipe:
    module = timm.create_model(architecture, pretrained=False)
    return _recipe(seed_vision_transformer(module), settings)


RECIPES: Recipes = {
    "resnet50": partial(_convnet, "resnet50"),
    "resnet50_dynbatch": partial(_convnet, "resnet50", **DYNAMIC_BATCH),
    "resnet50_bnkeep": partial(_convnet, "resnet50", **KEEP_BATCH_NORM),
    "mobilenetv2_100": partial(_convnet, "mobilenetv2_100"),
    "efficientnet_b0": partial(_convnet, "efficientnet_b0"),
    "efficientnet_b0_bnkeep": partial(_convnet, "efficientnet_b0", **KEEP_BATCH_NORM),
    "convnext_tiny": partial(_convnet, "convnext_tiny"),
    # ONNX has Gelu since opset 20: one model has the operator, the other its expansion.
    "vit_base_patch16_224": partial(_vision_transformer, "vit_base_patch16_224", opset=20),
    "deit_tiny_patch16_224": partial(_vision_transformer, "deit_tiny_patch16_224"),
    "densenet121": partial(_convnet, "densenet121"),
    "regnety_008": partial(_convnet, "regnety_008"),
    "mixer_s16_224": partial(_vision_transformer, "mixer_s16_224"),
    "mobilenetv3_large_100": partial(_convnet, "mobilenetv3_large_100"),
    "resnext50_32x4d": partial(_convnet, "resnext50_32x4d"),
    "swin_tiny_patch4_window7_224": partial(_vision_transformer, "swin_tiny_patch4_window7_224"),
}
