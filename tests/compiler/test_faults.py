from __future__ import annotations

import numpy as np
import pytest

from tests import models
from tests.compiling import reference
from tests.planted import each_kernel, first_argument, negated, with_calls, without_steps
from tilewright.compiler import pipeline, runtime
from tilewright.compiler.faults import Fault
from tilewright.errors import OptionError
from tilewright.options import CompileOptions
from tilewright.targets import resolve


def _run(tmp_path, proto, faults=(), **fields):
    """The library of `proto` with `faults`, and how far it is off."""
    folder = tmp_path / f"work{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    options = CompileOptions(**fields)
    work = pipeline.Work(path, resolve("native"), options, {}, folder, faults=tuple(faults))
    pipeline.run(work, lambda stage: None, lambda *row: None)
    x = np.random.default_rng(0).standard_normal((2, 64)).astype(np.float32)
    return float(np.abs(runtime.load(work.library, 1)(x) - reference(proto, {"x": x})[0]).max())


FAULTS = {
    "rule": (Fault("rule", "linear", each_kernel(negated)), "linear_rule"),
    "fusion": (Fault("fusion", "linear", without_steps("relu")), "linear"),
    "kernel": (Fault("kernel", "linear_0", negated, by="linear"), "linear_rule"),
    "schedule": (Fault("kernel", "linear_0", negated, by="fallback"), None),
    "stage": (Fault("stage", "clean_up", with_calls("relax.add", first_argument)), "clean_up"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_there_unless_its_place_is_switched_off(name, tmp_path):
    fault, off = FAULTS[name]
    proto = models.linear()
    if name == "schedule":
        # As long as a rule writes the kernel, the schedule does not.
        rules = ("linear_rule", "matmul")
        assert _run(tmp_path, proto, [fault]) < 1e-5
        assert _run(tmp_path, proto, [fault], disable=rules) > 0.1
        assert _run(tmp_path, proto, [fault], disable=(*rules, "schedule")) < 1e-5
        return
    assert _run(tmp_path, proto, [fault]) > 0.1
    assert _run(tmp_path, proto, [fault], disable=(off,)) < 1e-5


def test_a_fault_in_nothing_is_refused(tmp_path):
    with pytest.raises(OptionError, match="no fault of kind 'pass'"):
        Fault("pass", "simplify", lambda mod: mod)
    for kind in ("stage", "fusion", "rule"):
        with pytest.raises(OptionError, match=f"there is no {kind} called 'gone'"):
            _run(tmp_path, models.linear(), [Fault(kind, "gone", lambda value: value)])
