"""Name CTranslate2's Whisper variables as transformers names its parameters.

Before   encoder/layer_0/self_attention/linear_0/weight     queries, keys and values in one
After    encoder.layers.0.self_attn.q_proj.weight, ...k_proj.weight, ...v_proj.weight
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from tools.zoo import ctranslate2
from tools.zoo.errors import ZooError

LAYERS = 4  # of the tiny model, on either side

State = dict[str, torch.Tensor]


class _Variables:
    """The file's variables, as torch tensors of their own."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self._arrays[name].copy())

    def linear(self, source: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self.tensor(f"{source}/weight"), self.tensor(f"{source}/bias")


def read_state(path: Path) -> State:
    """The state dict of transformers' WhisperModel, from a CTranslate2 file."""
    variables = _Variables(ctranslate2.read(path, "WhisperSpec"))
    state: State = {
        "encoder.embed_positions.weight": variables.tensor("encoder/position_encodings/encodings"),
        "decoder.embed_positions.weight": variables.tensor("decoder/position_encodings/encodings"),
        "decoder.embed_tokens.weight": variables.tensor("decoder/embeddings/weight"),
    }
    for conv in ("encoder.conv1", "encoder.conv2"):
        state |= _named(conv, *variables.linear(conv.replace(".", "/")))
    for side in ("encoder", "decoder"):
        state |= _norm(variables, f"{side}.layer_norm", f"{side}/layer_norm")
        for i in range(LAYERS):
            state |= _layer(variables, f"{side}.layers.{i}", f"{side}/layer_{i}")
    return state


def _named(target: str, weight: torch.Tensor, bias: torch.Tensor) -> State:
    return {f"{target}.weight": weight, f"{target}.bias": bias}


def _norm(variables: _Variables, target: str, source: str) -> State:
    gamma, beta = variables.tensor(f"{source}/gamma"), variables.tensor(f"{source}/beta")
    return _named(target, gamma, beta)


def _layer(variables: _Variables, target: str, source: str) -> State:
    own = f"{source}/self_attention"
    state = _norm(variables, f"{target}.self_attn_layer_norm", f"{own}/layer_norm")
    state |= _self_attention(variables, f"{target}.self_attn", own)
    if target.startswith("decoder"):
        cross = f"{source}/attention"
        state |= _norm(variables, f"{target}.encoder_attn_layer_norm", f"{cross}/layer_norm")
        state |= _cross_attention(variables, f"{target}.encoder_attn", cross)
    state |= _norm(variables, f"{target}.final_layer_norm", f"{source}/ffn/layer_norm")
    state |= _named(f"{target}.fc1", *variables.linear(f"{source}/ffn/linear_0"))
    state |= _named(f"{target}.fc2", *variables.linear(f"{source}/ffn/linear_1"))
    return state


def _self_attention(variables: _Variables, target: str, source: str) -> State:
    weight, bias = variables.linear(f"{source}/linear_0")
    query_weight, key_weight, value_weight = weight.chunk(3)
    query_bias, key_bias, value_bias = bias.chunk(3)
    return {
        **_named(f"{target}.q_proj", query_weight, query_bias),
        **_key(target, key_weight, key_bias),
        **_named(f"{target}.v_proj", value_weight, value_bias),
        **_named(f"{target}.out_proj", *variables.linear(f"{source}/linear_1")),
    }


def _cross_attention(variables: _Variables, target: str, source: str) -> State:
    weight, bias = variables.linear(f"{source}/linear_1")
    key_weight, value_weight = weight.chunk(2)
    key_bias, value_bias = bias.chunk(2)
    return {
        **_named(f"{target}.q_proj", *variables.linear(f"{source}/linear_0")),
        **_key(target, key_weight, key_bias),
        **_named(f"{target}.v_proj", value_weight, value_bias),
        **_named(f"{target}.out_proj", *variables.linear(f"{source}/linear_2")),
    }


def _key(target: str, weight: torch.Tensor, bias: torch.Tensor) -> State:
    if bias.any():  # Whisper has none, so transformers has nowhere to put one
        raise ZooError(f"{target}.k_proj: the file has a key bias, want zeros")
    return {f"{target}.k_proj.weight": weight}
