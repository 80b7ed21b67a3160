from __future__ import annotations

import pytest

from tilewright.compiler.importer.support import (
    DEFINITION,
    NOBODY,
    OURS,
    TVM,
    owner,
    schema_of,
    why_not,
)


@pytest.mark.parametrize(
    "domain, name, expected",
    [
        ("", "Relu", TVM),
        ("", "LSTM", OURS),
        ("", "Attention", OURS),
        ("", "Bernoulli", OURS),
        ("com.microsoft", "QuickGelu", OURS),
        ("com.microsoft", "BiasGelu", TVM),
        ("", "NegativeLogLikelihoodLoss", DEFINITION),
        ("", "TfIdfVectorizer", NOBODY),
        ("my.domain", "Relu", NOBODY),
        ("com.microsoft", "NoSuchThing", NOBODY),
    ],
)
def test_who_converts_what(domain, name, expected):
    assert owner(domain, name) == expected


def test_a_definition_counts_from_its_version_on():
    assert owner("", "RotaryEmbedding", 23) == DEFINITION
    assert owner("", "RotaryEmbedding", 22) == NOBODY


def test_schemas_by_version():
    assert schema_of("", "Relu", 13).since_version == 13
    assert schema_of("", "Relu", 17).since_version == 14
    assert schema_of("my.domain", "Relu") is None


@pytest.mark.parametrize(
    "domain, name, reason, hint",
    [
        ("my.domain", "Fancy", "domain my.domain are not known", "function in the model"),
        ("com.microsoft", "Fancy", "ONNX Runtime", "without ONNX Runtime's graph optimisations"),
        ("", "TfIdfVectorizer", "no converter yet", "report it"),
    ],
)
def test_reasons_say_what_to_do(domain, name, reason, hint):
    what, mend = why_not(domain, name)
    assert reason in what and hint in mend
