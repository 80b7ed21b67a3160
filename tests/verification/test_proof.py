from __future__ import annotations

import json

import numpy as np

from tilewright.verification.proof import Proof, failure_text
from tilewright.verification.tolerance import Tolerance


def _verdict(name, ours, theirs=(1, 2)):
    return Tolerance.within(name, np.float32(ours), np.float32(theirs), 1e-4).to_dict()


GOOD = _verdict("a", [1, 2.00001])
CLOSE = _verdict("b", [1, 2.00015])
WRONG = _verdict("c", [1, 3])
NAN = _verdict("d", [1, np.nan])


def _example(*verdicts, **dims):
    return {"dims": dims, "kind": "normal", "seed": 0, "verdicts": list(verdicts)}


def _proof(*examples, failure=None, **fields) -> Proof:
    failure = {**failure, "folder": None} if failure else None
    return Proof("m.onnx", "ONNX Runtime 1", tuple(examples), failure, **fields)


def test_passes_when_there_were_examples_and_none_failed():
    assert _proof(_example(GOOD, CLOSE)).passed
    assert not _proof(_example(GOOD), failure=_example(WRONG)).passed
    assert not _proof(refused=3, refusal="no").passed


def test_an_output_shows_its_worst_example():
    other = _verdict("a", [1, 2.0001])
    (row,) = _proof(_example(GOOD), _example(other), _example(GOOD)).outputs
    assert (row["name"], row["examples"]) == ("a", 3)
    assert row["used"] == other["used"] and row["sqnr"] == other["sqnr"] < GOOD["sqnr"]
    assert _proof(_example(GOOD, CLOSE)).used == CLOSE["used"]
    assert _proof(failure=_example(WRONG)).used is None


def test_an_output_that_is_equal_has_no_noise():
    equal = _verdict("a", [1, 2])
    assert _proof(_example(equal)).outputs[0]["sqnr"] is None
    assert _proof(_example(equal), _example(GOOD)).outputs[0]["sqnr"] == GOOD["sqnr"]


def test_says_how_many_examples_and_shapes():
    proof = _proof(_example(GOOD, n=1), _example(GOOD, n=1), _example(CLOSE, n=5))
    assert str(proof) == (
        "m.onnx agrees with ONNX Runtime 1 on 3 examples of 2 shapes; 75% of the tolerance used"
    )
    assert "on 1 example; under 1% of" in str(_proof(_example(_verdict("a", [1, 2]))))
    assert "every input was refused: too small" in str(_proof(refused=2, refusal="too small"))


def test_says_where_it_failed_and_what_was_allowed():
    text = str(_proof(failure=_example(GOOD, WRONG)))
    assert text.startswith("m.onnx DISAGREES with ONNX Runtime 1; output 'c' at [1]: 3, reference")
    assert "reference 2;" in text and "allowed 1.00e-04" in text
    assert "NaN or infinity in 1 places" in failure_text(_example(NAN))
    assert failure_text(_example(WRONG, NAN)).startswith("output 'd'"), "NaN is worse"


def test_notes_are_told_once():
    noted = {**GOOD, "note": "look"}
    assert _proof(_example(noted), _example(noted, noted)).notes == ["look"]


def test_goes_through_json_and_back():
    for proof in (_proof(_example(GOOD, NAN)), _proof(failure=_example(WRONG), no_truth="why")):
        text = json.dumps(proof.to_dict(), allow_nan=False)
        assert Proof.from_dict(json.loads(text)) == proof
