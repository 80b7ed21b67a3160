"""Small valid models of different kinds, for `mutations.py` to damage.

They are written in ONNX's text format. Inputs that are called w_... become weights: float weights
are drawn from a fixed seed, others are 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper, parser

from tools.mutate.case import Case

_CONVOLUTIONS = """
net (float[1, 3, 8, 8] x, float[8, 3, 3, 3] w_0, float[8] w_scale, float[8] w_shift,
     float[8] w_mean, float[8] w_var, float[8, 2, 3, 3] w_1, float[5, 8] w_2, float[5] w_3)
 => (float[1, 5] y)
{
  [conv] c = Conv <pads = [1, 1, 1, 1], strides = [1, 1], kernel_shape = [3, 3]> (x, w_0)
  [norm] n = BatchNormalization <epsilon = 1e-5> (c, w_scale, w_shift, w_mean, w_var)
  [relu] r = Relu (n)
  [grouped] g = Conv <group = 4, pads = [1, 1, 1, 1], dilations = [1, 1]> (r, w_1)
  [skip] s = Add (r, g)
  [pool] p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (s)
  [mean] m = GlobalAveragePool (p)
  [flat] f = Flatten <axis = 1> (m)
  [linear] l = Gemm <transB = 1, alpha = 1.0> (f, w_2, w_3)
  [softmax] y = Softmax <axis = -1> (l)
}
"""
_ATTENTION = """
net (float[1, 6, 16] x, float[16] w_scale, float[16] w_shift, float[16, 16] w_q,
     float[16, 16] w_k, float[16, 16] w_v, float[16, 16] w_o) => (float[1, 6, 16] y)
<int64[4] apart = {1, 6, 2, 8}, int64[3] together = {1, 6, 16}, float root = {0.35355}>
{
  [norm] n = LayerNormalization <axis = -1, epsilon = 1e-5> (x, w_scale, w_shift)
  [to_q] q = MatMul (n, w_q)
  [to_k] k = MatMul (n, w_k)
  [to_v] v = MatMul (n, w_v)
  [part_q] q4 = Reshape (q, apart)
  [part_k] k4 = Reshape (k, apart)
  [part_v] v4 = Reshape (v, apart)
  [turn_q] qt = Transpose <perm = [0, 2, 1, 3]> (q4)
  [turn_k] kt = Transpose <perm = [0, 2, 3, 1]> (k4)
  [turn_v] vt = Transpose <perm = [0, 2, 1, 3]> (v4)
  [scores] s = MatMul (qt, kt)
  [scaled] sc = Mul (s, root)
  [weights] a = Softmax <axis = -1> (sc)
  [mixed] o = MatMul (a, vt)
  [turn_o] ot = Transpose <perm = [0, 2, 1, 3]> (o)
  [joined] oj = Reshape (ot, together)
  [out] p = MatMul (oj, w_o)
  [residual] y = Add (x, p)
}
"""
_LSTM = """
net (float[5, 1, 4] x, float[1, 12, 4] w_w, float[1, 12, 3] w_r, float[1, 24] w_b)
 => (float[5, 1, 3] y, float[1, 1, 3] last)
<int64[1] one = {1}>
{
  [cell] h, last, c = LSTM <hidden_size = 3, direction = "forward"> (x, w_w, w_r, w_b)
  [squeeze] y = Squeeze (h, one)
}
"""
_BRANCHES = """
net (float[2, 4] x, bool choice) => (float[2, 4] y)
<float[4] bias = {1.0, 2.0, 3.0, 4.0}>
{
  [before] b = Add (x, bias)
  [which] z = If (choice) <
    then_branch = yes () => (float[2, 4] t) { [yes_relu] t = Relu (b) },
    else_branch = no () => (float[2, 4] e)
      { [no_tanh] u = Tanh (b) [no_add] e = Add (u, x) }
  >
  [after] y = Sigmoid (z)
}
"""
_LOOPS = """
net (float[3, 4] x, float[4] start) => (float[4] y, float[3, 4] sums)
<int64 count = {3}, bool keep = {1}>
{
  [loop] total = Loop (count, keep, start) <
    body = step (int64 i, bool go, float[4] state) => (bool on, float[4] next)
      { [go_on] on = Identity (go) [grow] next = Add (state, state) }
  >
  [scan] y, sums = Scan <num_scan_inputs = 1,
    body = sum (float[4] old, float[4] row) => (float[4] new, float[4] copy)
      { [add] new = Add (old, row) [copy_it] copy = Identity (new) }
  > (total, x)
}
"""
_QUANTISED = """
net (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y)
<float sx = {0.02}, uint8 zx = {128}, float[4] sw = {0.01, 0.02, 0.03, 0.04},
 int8[4] zw = {0, 0, 0, 0}, int8[4, 4, 1, 1] w_8 = {1, -2, 3, 4, 5, -6, 7, 8, 9, 10, -11, 12, 13,
 14, 15, -16}, float sy = {0.05}, uint8 zy = {100}>
{
  [quantize_x] xq = QuantizeLinear (x, sx, zx)
  [dequantize_x] xd = DequantizeLinear (xq, sx, zx)
  [dequantize_w] wd = DequantizeLinear <axis = 0> (w_8, sw, zw)
  [conv] c = Conv (xd, wd)
  [quantize_y] yq = QuantizeLinear (c, sy, zy)
  [dequantize_y] y = DequantizeLinear (yq, sy, zy)
}
"""
_OPEN = """
net (float[n, s, 8] x, float[8, 8] w_0) => (float[n, t] y)
<int64 zero = {0}, int64[1] rest = {-1}, int64[1] axes = {0}>
{
  [product] p = MatMul (x, w_0)
  [shape] sh = Shape (p)
  [batch] b = Gather <axis = 0> (sh, zero)
  [wide] u = Unsqueeze (b, axes)
  [sizes] to = Concat <axis = 0> (u, rest)
  [flat] f = Reshape (p, to)
  [mean] m = ReduceMean <axes = [1], keepdims = 1> (p)
  [clip] r = Relu (m)
  [both] o = Reshape (r, to)
  [join] y = Concat <axis = 1> (f, o)
}
"""
_FUNCTIONS = """
net (float[2, 3] x, float[3, 3] w_0) => (float[2, 3] y)
{
  [first] a = local.twice <by = 2.0> (x)
  [product] p = MatMul (a, w_0)
  [second] y = local.soft (p)
}
<domain: "local", opset_import: ["" : 17]>
twice <by> (x) => (y)
{ k = Constant <value_float: float = @by> () y = Mul (x, k) }
<domain: "local", opset_import: ["" : 17, "local" : 1]>
soft (x) => (y)
{ a = local.twice <by = 0.5> (x) e = Exp (a) one = Constant <value = float {1.0}> ()
  s = Add (e, one) y = Log (s) }
"""
_TABLES = """
net (int64[1, 5] ids, float[1, 5, 4] more, bool[1, 5, 1] mask, float[9, 4] w_table)
 => (float[1, 5, 4] y, int64[1, 5, 2] places, float[1, 2, 4] part)
<float none = {-1.0}, int64[1] k = {2}, int64[1] from = {1}, int64[1] to = {3},
 int64[1] along = {1}>
{
  [rows] e = Gather <axis = 0> (w_table, ids)
  [sum] s = Add (e, more)
  [masked] y = Where (mask, s, none)
  [best] values, places = TopK <axis = -1> (s, k)
  [middle] part = Slice (s, from, to, along)
}
"""
_PICTURES = """
net (float[1, 2, 6, 6] x, float[2, 3, 2, 2] w_0) => (float[1, 3, 12, 12] y, float[1, 4, 3, 3] z)
<int64[8] pads = {0, 0, 1, 1, 0, 0, 1, 1}, float[4] scales = {1.0, 1.0, 2.0, 2.0},
 int64[2] parts = {1, 2}, int64[4] repeats = {1, 2, 1, 1}, int64[4] size = {1, 4, 3, 3}>
{
  [pad] p = Pad <mode = "constant"> (x, pads)
  [mean] a = AveragePool <kernel_shape = [3, 3], count_include_pad = 1> (p)
  [up] u = ConvTranspose <strides = [2, 2]> (a, w_0)
  [split] l, r = Split <axis = 1> (u, parts)
  [act] h = HardSigmoid <alpha = 0.2> (r)
  [join] y = Concat <axis = 1> (l, h)
  [big] b = Resize <mode = "nearest"> (x, , scales)
  [small] d = MaxPool <kernel_shape = [4, 4], strides = [4, 4]> (b)
  [many] t = Tile (d, repeats)
  [wide] z = Expand (t, size)
}
"""
_OUTSIDE = """
net (float[2, 16] x, float[16, 8] w_0, float[8] w_1) => (float[2, 8] y)
{
  [product] p = MatMul (x, w_0)
  [bias] b = Add (p, w_1)
  [gelu] y = Elu (b)
}
"""
_HEADER = '<ir_version: 9, opset_import: ["" : 17, "local" : 1]>'


def _model(text: str) -> onnx.ModelProto:
    model = parser.parse_model(_HEADER + text)
    kept = []
    for number, value in enumerate(model.graph.input):
        if value.name.startswith("w_"):
            model.graph.initializer.append(_weight(value, number))
        else:
            kept.append(value)
    del model.graph.input[:]
    model.graph.input.extend(kept)
    if not model.functions:
        del model.opset_import[1:]
    return model


def _weight(value: onnx.ValueInfoProto, number: int) -> onnx.TensorProto:
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    drawn = np.random.default_rng(number).uniform(0.1, 0.5, shape)
    return numpy_helper.from_array(drawn.astype(np.float32), value.name)


def _plain(text: str) -> Callable[[], Case]:
    return lambda: Case(_model(text))


def _outside() -> Case:
    case = Case(_model(_OUTSIDE))
    data = b""
    for tensor in case.graph.initializer:
        onnx.external_data_helper.set_external_data(
            tensor, "weights.bin", offset=len(data), length=len(tensor.raw_data)
        )
        data += tensor.raw_data
        tensor.ClearField("raw_data")
    case.files["weights.bin"] = data
    return case


def _listed() -> Case:
    """As old exporters write: weights are listed among the inputs, and there are descriptions."""
    case = Case(_model(_CONVOLUTIONS))
    case.model.producer_name, case.model.doc_string = "exporter", "a description"
    for tensor in case.graph.initializer:
        case.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    return case


MODELS: dict[str, Callable[[], Case]] = {
    "convolutions": _plain(_CONVOLUTIONS),
    "attention": _plain(_ATTENTION),
    "lstm": _plain(_LSTM),
    "branches": _plain(_BRANCHES),
    "loops": _plain(_LOOPS),
    "quantised": _plain(_QUANTISED),
    "open": _plain(_OPEN),
    "functions": _plain(_FUNCTIONS),
    "tables": _plain(_TABLES),
    "pictures": _plain(_PICTURES),
    "outside": _outside,
    "listed": _listed,
}
