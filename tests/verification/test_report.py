from __future__ import annotations

import json

import numpy as np

from tilewright.verification.compare import compare
from tilewright.verification.report import VerifyReport

GOOD = compare("a", np.float32([1, 2]), np.float32([1, 2.00001]), 1e-4).to_dict()
CLOSE = compare("b", np.float32([1, 2]), np.float32([1, 2.0001]), 1e-4).to_dict()
WRONG = compare("c", np.float32([1, 3]), np.float32([1, 2]), 1e-4).to_dict()
NAN = compare("d", np.float32([1, np.nan]), np.float32([1, 2]), 1e-4).to_dict()


def _report(*outputs) -> VerifyReport:
    runs = tuple({"dims": {}, "outputs": [output]} for output in outputs)
    return VerifyReport("m.onnx", "ONNX Runtime 1", runs)


def test_passes_when_every_output_of_every_run_does():
    assert _report(GOOD, CLOSE).passed
    assert not _report(GOOD, WRONG).passed
    assert not _report(NAN, GOOD).passed


def test_the_worst_output_used_most_of_its_budget():
    assert _report(GOOD, CLOSE).worst["name"] == "b"
    assert _report(GOOD, WRONG, CLOSE).worst["name"] == "c"
    assert _report(WRONG, NAN).worst["name"] == "d", "NaN is worse than any number"


def test_says_where_and_what_was_allowed():
    text = str(_report(GOOD, WRONG))
    assert text.startswith("m.onnx DISAGREES with ONNX Runtime 1; worst: output 'c' at [1]: 3,")
    assert "reference 2" in text and "allowed 1.00e-04" in text
    assert "agrees with" in str(_report(GOOD))
    assert "NaN or infinity in 1 places" in str(_report(NAN))


def test_goes_through_json_and_back():
    for report in (_report(GOOD, WRONG), _report(NAN)):
        text = json.dumps(report.to_dict(), allow_nan=False)
        assert VerifyReport.from_dict(json.loads(text)) == report
