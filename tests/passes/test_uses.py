from __future__ import annotations

from tvm import relax

from tilewright.passes.uses import count_readers


def _function(twice: bool, returns: str) -> tuple[relax.Function, dict[str, relax.Var]]:
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    with bb.function("main", [x]):
        with bb.dataflow():
            a = bb.emit(relax.op.exp(x))
            b = bb.emit(relax.op.add(a, a))
            c = bb.emit(relax.op.add(b, a)) if twice else b
            out = bb.emit_output(relax.Tuple([a, c]) if returns == "both" else c)
        bb.emit_func_output(out)
    return bb.get()["main"], {"x": x, "a": a, "b": b}


def test_a_binding_that_reads_twice_is_one_reader():
    function, names = _function(twice=False, returns="last")
    readers = count_readers(function)
    assert readers[names["a"]] == 1 and readers[names["x"]] == 1


def test_each_binding_counts():
    function, names = _function(twice=True, returns="last")
    readers = count_readers(function)
    assert readers[names["a"]] == 2 and readers[names["b"]] == 1


def test_the_result_is_a_reader():
    function, names = _function(twice=True, returns="both")
    assert count_readers(function)[names["a"]] == 3
