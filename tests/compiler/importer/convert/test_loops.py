"""Loops whose number of steps is only known at run time, beside ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from tests.compiling import compile_here, module_of
from tests.models import weight
from tests.net import answers_each
from tilewright.errors import UnsupportedModel

TRUE, FALSE = np.array(True), np.array(False)


def text_model(
    text: str, opset: int = 17, weights: Mapping[str, np.ndarray] | None = None
) -> onnx.ModelProto:
    """A model of a graph in ONNX's own text form."""
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]>\n{text}')
    for name, array in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def _values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


COUNTED = """
g (int64 m, bool c, float[3,4] x) => (float[3,4] y, float[k,3,4] ys) {
  half = Constant<value = float {0.5}>()
  y, ys = Loop <body = b (int64 i, bool ci, float[3,4] s) => (bool co, float[3,4] t, float[3,4] o) {
    co = Identity(ci)
    f = Cast<to = 1>(i)
    t = Mul(s, half)
    o = Add(t, f)
  }> (m, c, x)
}"""


def test_the_number_of_steps_is_an_input(tmp_path: Path):
    x = _values(3, 4)
    answers_each(
        text_model(COUNTED),
        tmp_path,
        *({"m": np.array(m), "c": TRUE, "x": x} for m in (0, 1, 2, 7, 16, 17, 48, 49, 1000, -3)),
        {"m": np.array(5), "c": FALSE, "x": x},
    )


@pytest.mark.parametrize("level", [0, 1, 3])
def test_at_every_level_of_optimisation(tmp_path: Path, level: int):
    given = {"m": np.array(20), "c": TRUE, "x": _values(3, 4)}
    answers_each(text_model(COUNTED), tmp_path, given, opt_level=level)


def test_a_condition_ends_the_loop(tmp_path: Path):
    proto = text_model("""
    g (int64 m, float[1] x, float limit) => (float[1] y, float[k,1] ys) {
      true = Constant<value = bool {1}>()
      two = Constant<value = float[1] {2.0}>()
      y, ys = Loop <body = b (int64 i, bool ci, float[1] s) => (bool co, float[1] t, float[1] o) {
        t = Mul(s, two)
        o = Identity(s)
        flat = Squeeze(t)
        co = Less(flat, limit)
      }> (m, true, x)
    }""")
    answers_each(
        proto,
        tmp_path,
        *(
            {"m": np.array(50), "x": np.float32([1]), "limit": np.float32(limit)}
            for limit in (0, 1.5, 1000, 1e30)
        ),
        {"m": np.array(3), "x": np.float32([1]), "limit": np.float32(1000)},
    )


def test_without_a_number_the_condition_alone_counts(tmp_path: Path):
    proto = text_model("""
    g (int64 n) => (int64 y, int64[k] ys) {
      true = Constant<value = bool {1}>()
      one = Constant<value = int64 {1}>()
      two = Constant<value = int64 {2}>()
      three = Constant<value = int64 {3}>()
      more = Greater(n, one)
      y, ys = Loop <body = b (int64 i, bool ci, int64 s) => (bool co, int64 t, int64 o) {
        odd = Mod(s, two)
        is_odd = Cast<to = 9>(odd)
        halved = Div(s, two)
        tripled = Mul(s, three)
        next = Add(tripled, one)
        t = Where(is_odd, next, halved)
        co = Greater(t, one)
        o = Identity(t)
      }> (, more, n)
    }""")
    answers_each(proto, tmp_path, *({"n": np.array(n)} for n in (1, 2, 7, 27, 97)))


def test_a_loop_in_a_loop(tmp_path: Path):
    proto = text_model(
        """
    g (int64 m, float[n,2] x) => (float[n,2] y, float[k,n,2] ys) {
      true = Constant<value = bool {1}>()
      y, ys = Loop <body = b (int64 i, bool ci, float[n,2] s)
          => (bool co, float[n,2] t, float[n,2] o) {
        co = Identity(ci)
        start = Mul(s, x)
        steps = Add(i, one)
        t, os = Loop <body = c (int64 j, bool cj, float[n,2] u)
            => (bool cp, float[n,2] v, float[n,2] p) {
          cp = Identity(cj)
          ij = Add(i, j)
          f = Cast<to = 1>(ij)
          v = Sub(u, f)
          p = Mul(v, x)
        }> (steps, true, start)
        o = ReduceSum <keepdims = 0> (os, zero)
      }> (m, true, x)
    }""",
        weights={"zero": np.array([0]), "one": np.array(1)},
    )
    x = _values(3, 2)
    each = ({"m": np.array(m), "x": x} for m in (1, 2, 5))
    answers_each(proto, tmp_path, *each, tolerance=1e-4)


WEIGHTS = """
g (int64 m, float[2,32] x, float[2,32] bias) => (float[2,32] y, float[k,2,32] ys) {
  true = Constant<value = bool {1}>()
  scaled = Mul(bias, bias)
  y, ys = Loop <body = b (int64 i, bool ci, float[2,32] s)
      => (bool co, float[2,32] t, float[2,32] o) {
    co = Identity(ci)
    p = MatMul(s, w)
    q = Add(p, scaled)
    t = Tanh(q)
    o = Identity(t)
  }> (m, true, x)
}"""


def test_weights_and_values_from_around_the_loop(tmp_path: Path):
    proto = text_model(WEIGHTS, weights={"w": weight("w", (32, 32), 0)})
    x, bias = _values(2, 32), _values(2, 32, seed=1)
    answers_each(
        proto,
        tmp_path,
        *({"m": np.array(m), "x": x, "bias": bias} for m in (0, 1, 40)),
        tolerance=1e-4,
    )


def test_products_in_the_body_have_our_kernels(tmp_path: Path):
    proto = text_model(WEIGHTS, weights={"w": weight("w", (32, 32), 0)})
    work = compile_here(proto, tmp_path)
    rules = {row["fusion"]: row["rule"] for row in work.manifest["kernels"] if row["fusion"]}
    assert rules == {"linear": "linear"}
    # What the loop reads is among the weights of the library: packed, and no constant of its own.
    assert max(array.nbytes for array in work.weights.arrays) >= 32 * 32 * 4


SCAN = """
g (float[n,3] x, float[3] s, float[1,n] rows) => (float[3] last, float[3,n] ys, float[n,3] zs) {
  last, ys, zs = Scan <
      num_scan_inputs = 2,
      body = b (float[3] state, float[3] e, float[1] r) => (float[3] t, float[3] o, float[3] p) {
        sum = Add(state, e)
        t = Tanh(sum)
        o = Mul(t, r)
        p = Identity(e)
      },
      scan_input_axes = [0, 1], scan_input_directions = [INPUTS],
      scan_output_axes = [1, 0], scan_output_directions = [OUTPUTS]> (s, x, rows)
}"""


@pytest.mark.parametrize(
    ("inputs", "outputs"), [("0, 0", "0, 0"), ("1, 0", "0, 1"), ("1, 1", "1, 0")]
)
def test_scan_over_an_open_dimension(tmp_path: Path, inputs: str, outputs: str):
    proto = text_model(SCAN.replace("INPUTS", inputs).replace("OUTPUTS", outputs))
    each = (
        {"x": _values(n, 3), "s": _values(3, seed=1), "rows": _values(1, n, seed=2)}
        for n in (1, 2, 17, 300)
    )
    answers_each(proto, tmp_path, *each)


def test_scan_inputs_of_different_lengths_are_an_error(tmp_path: Path):
    text = SCAN.replace("INPUTS", "0, 0").replace("OUTPUTS", "0, 0").replace("[1,n]", "[1,m]")
    module = module_of(text_model(text), tmp_path)
    given = {"x": _values(4, 3), "s": _values(3), "rows": _values(1, 5)}
    with pytest.raises(Exception, match="4"):
        module(given)


def test_many_steps_of_a_known_number(tmp_path: Path):
    text = """
    g (float[5000,3] x, float[3] s) => (float[3] last, float[5000,3] ys) {
      last, ys = Scan <num_scan_inputs = 1, body = b (float[3] state, float[3] e)
          => (float[3] t, float[3] o) {
        sum = Add(state, e)
        t = Tanh(sum)
        o = Identity(t)
      }> (s, x)
    }"""
    answers_each(text_model(text), tmp_path, {"x": _values(5000, 3), "s": _values(3)})


def test_a_hundred_thousand_steps_do_not_overflow(tmp_path: Path):
    module = module_of(text_model(COUNTED), tmp_path)
    x = np.zeros((3, 4), np.float32)
    y, ys = module({"m": np.array(100_000), "c": TRUE, "x": x})
    assert not y.any()
    np.testing.assert_array_equal(ys[:, 2, 3], np.arange(100_000))


def test_a_state_may_grow(tmp_path: Path):
    proto = text_model("""
    g (int64 m, float[n,2] x) => (float[k,2] y, float[l] ys) {
      true = Constant<value = bool {1}>()
      y, ys = Loop <body = b (int64 i, bool ci, float[j,2] s) => (bool co, float[jj,2] t, float o) {
        co = Identity(ci)
        t = Concat <axis = 0> (s, x)
        o = ReduceSum <keepdims = 0> (t)
      }> (m, true, x)
    }""")
    each = ({"m": np.array(m), "x": _values(n, 2)} for m, n in ((0, 3), (1, 1), (6, 2), (20, 3)))
    answers_each(proto, tmp_path, *each, tolerance=1e-4)


def test_two_states_that_begin_alike(tmp_path: Path):
    proto = text_model("""
    g (int64 m, float[2] x) => (float[2] y, float[2] z) {
      true = Constant<value = bool {1}>()
      y, z = Loop <
          body = b (int64 i, bool ci, float[2] s, float[2] t)
            => (bool co, float[2] u, float[2] v) {
        co = Identity(ci)
        u = Add(s, t)
        v = Identity(s)
      }> (m, true, x, x)
    }""")
    answers_each(proto, tmp_path, *({"m": np.array(m), "x": _values(2)} for m in (0, 1, 12)))


def test_branches_in_a_body(tmp_path: Path):
    proto = text_model("""
    g (int64 m, float[3] x) => (float[3] y, float[k,3] ys) {
      true = Constant<value = bool {1}>()
      two = Constant<value = int64 {2}>()
      y, ys = Loop <body = b (int64 i, bool ci, float[3] s) => (bool co, float[3] t, float[3] o) {
        co = Identity(ci)
        rest = Mod(i, two)
        odd = Cast <to = 9> (rest)
        t = If (odd) <then_branch = th () => (float[3] u) { u = Add(s, x) },
                      else_branch = el () => (float[3] v) { v = Mul(s, x) }>
        o = Identity(t)
      }> (m, true, x)
    }""")
    answers_each(proto, tmp_path, *({"m": np.array(m), "x": _values(3)} for m in (0, 1, 9)))


def test_a_loop_in_a_branch_that_is_not_taken_need_not_end(tmp_path: Path):
    proto = text_model("""
    g (bool c, float x) => (float y) {
      y = If (c) <
        then_branch = th () => (float u) {
          u = Loop <body = b (int64 i, bool ci, float s) => (bool co, float t) {
            t = Add(s, x)
            co = Less(t, x)
          }> (, c, x)
        },
        else_branch = el () => (float v) {
          v = Loop <body = d (int64 i, bool ci, float s) => (bool cp, float t) {
            t = Add(s, x)
            cp = Identity(ci)
          }> (, c, x)
        }>
    }""")
    answers_each(
        proto, tmp_path, *({"c": np.array(c), "x": np.float32(1.5)} for c in (True, False))
    )


def test_the_number_may_be_a_size(tmp_path: Path):
    proto = text_model("""
    g (float[n,2] x) => (float[n,2] ys) {
      true = Constant<value = bool {1}>()
      sizes = Shape(x)
      zero = Constant<value = int64 {0}>()
      n = Gather(sizes, zero)
      ys = Loop <body = b (int64 i, bool ci) => (bool co, float[2] o) {
        co = Identity(ci)
        o = Gather(x, i)
      }> (n, true)
    }""")
    work = compile_here(proto, tmp_path, until="import")
    # Whoever reads it knows how long it is.
    assert work.interface["outputs"][0]["shape"] == ["n", 2]
    answers_each(proto, tmp_path, *({"x": _values(n, 2)} for n in (1, 7)))


def _refused(text: str, tmp_path: Path, opset: int = 17) -> UnsupportedModel:
    with pytest.raises(UnsupportedModel) as caught:
        compile_here(text_model(text, opset), tmp_path, until="import")
    return caught.value


def test_refuses_a_state_that_changes_its_rank(tmp_path: Path):
    error = _refused(
        """
    g (int64 m, float[3] x) => (float[k] y) {
      true = Constant<value = bool {1}>()
      axes = Constant<value = int64[1] {0}>()
      y = Loop <body = b (int64 i, bool ci, float s) => (bool co, float t) {
        co = Identity(ci)
        t = Unsqueeze(s, axes)
      }> (m, true, x)
    }""",
        tmp_path,
    )
    assert "'x' changes its type" in str(error) and "(Loop)" in error.where


def test_refuses_results_of_different_sizes(tmp_path: Path):
    error = _refused(
        """
    g (int64 m, float[1] x) => (float[k] y, float[k,l] ys) {
      true = Constant<value = bool {1}>()
      y, ys = Loop <body = b (int64 i, bool ci, float[j] s)
          => (bool co, float[jj] t, float[jj] grown) {
        co = Identity(ci)
        t = Concat <axis = 0> (s, x)
        grown = Identity(t)
      }> (m, true, x)
    }""",
        tmp_path,
    )
    assert "'grown'" in str(error) and "(Loop)" in error.where and error.hint


def test_a_size_that_a_step_computes_is_the_one_that_it_declares(tmp_path: Path):
    proto = text_model(
        """
    g (int64 m, float[n] x, float[1] s) => (float[1] y, float[k,1] ys) {
      true = Constant<value = bool {1}>()
      y, ys = Loop <
          body = b (int64 i, bool ci, float[1] s) => (bool co, float[1] t, float[1] o) {
        co = Identity(ci)
        next = Add(i, one)
        start = Unsqueeze(i, zero)
        end = Unsqueeze(next, zero)
        o = Slice(x, start, end)
        t = Add(s, o)
      }> (m, true, s)
    }""",
        weights={"zero": np.array([0]), "one": np.array(1)},
    )
    each = ({"m": np.array(m), "x": _values(9), "s": _values(1, seed=1)} for m in (0, 1, 9))
    answers_each(proto, tmp_path, *each)
