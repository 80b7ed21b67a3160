from __future__ import annotations

from tests import models
from tilewright.analysis.findings import Finding, by_converters, without_converter
from tilewright.compiler.importer.load import load
from tilewright.errors import UnsupportedModel


def test_an_error_as_a_finding():
    error = UnsupportedModel("a mode", where="node n (Pad)", expected="another", hint="report it")
    found = Finding.of("import", error, "n (Pad)", operator="Pad")
    assert found.to_dict() == {
        "stage": "import",
        "what": "a mode",
        "where": "node n (Pad)",
        "expected": "another",
        "hint": "report it",
        "operator": "Pad",
        "nodes": ["n (Pad)"],
    }


def test_a_fault_keeps_what_it_says_last():
    found = Finding.fault("legalize", ValueError("trace\n  no kernel for this"))
    assert found.what == "the compiler fails: ValueError: no kernel for this"
    assert "report it" in found.hint
    assert Finding.fault("legalize", KeyError()).what == "the compiler fails: KeyError: "


def test_the_reason_that_names_a_node_is_taken(model_file):
    model = load(model_file(models.unsupported()))
    earlier = Finding(
        "normalise", "no such cache", where="node fancy_2 (my.domain.Fancy)", hint="?"
    )
    found = without_converter(model, earlier)
    assert list(found) == [("", models.UNCONVERTED), ("my.domain", "Add"), ("my.domain", "Fancy")]
    fancy = found["my.domain", "Fancy"]
    assert (fancy.what, fancy.hint, len(fancy.nodes)) == ("no such cache", "?", 2)
    assert found["my.domain", "Add"].what != "no such cache"


def test_operators_without_a_converter_are_no_refusals_of_converters(model_file):
    model = load(model_file(models.unsupported()))
    found, unchecked = by_converters(model, 8)
    assert found == [] and len(unchecked) == 3
