"""Rows of operators for random graphs: convolutions, products, pools, norms, and blocks of them."""

from __future__ import annotations

import math

from tilewright.verification.graph_builder import Builder, Size, Value
from tilewright.verification.graph_operators import (
    ELEMENTWISE,
    Draw,
    Operator,
    axis_of,
    between,
    chance,
    one_of,
    scalar,
)

_ACTIVATIONS = tuple(
    row
    for row in ELEMENTWISE
    if row.name in ("Relu", "Sigmoid", "HardSwish", "Clip", "Gelu", "LeakyRelu", "Tanh", "Mish")
)
_CHANNELS = (4, 1, 2, 3, 8, 5, 16, 7, 32)


def activated(draw: Draw, net: Builder, x: Value) -> Value:
    """An activation of x, or x."""
    rows = [row for row in _ACTIVATIONS if row.takes(x)]
    return one_of(draw, *rows).make(draw, net, x) if chance(draw) else x


def _span(draw: Draw, size: Size) -> tuple[int, int, list[int], int]:
    """Kernel, stride, two pads and dilation that fit an axis; an open one whatever its size."""
    if isinstance(size, str):
        kernel, stride, dilation = one_of(draw, 3, 1, 5), between(draw, 1, 2), between(draw, 1, 2)
        return kernel, stride, [dilation * (kernel // 2)] * 2, dilation
    dilation = one_of(draw, 1, 1, 1, 2)
    kernel = one_of(draw, 3, 1, 2, 5, 7)
    # What the window lacks of the axis, and up to two more; ONNX Runtime wants less than the kernel
    # from pools.
    lacks = max(0, dilation * (kernel - 1) + 1 - size)
    least = [lacks - lacks // 2, lacks // 2]
    if max(least) >= kernel:
        return 1, between(draw, 1, 3), [0, 0], 1
    pads = [min(kernel - 1, n + between(draw, 0, 2)) for n in least]
    return kernel, between(draw, 1, 3), pads, dilation


def _windows(draw: Draw, x: Value) -> dict[str, list[int]]:
    """Attributes of a window over the axes from 2 on."""
    if chance(draw) and x.rank == 4 and x.shape[2] == x.shape[3]:
        spans = [_span(draw, x.shape[2])] * 2
    else:
        spans = [_span(draw, size) for size in x.shape[2:]]
    return {
        "kernel_shape": [kernel for kernel, _, _, _ in spans],
        "strides": [stride for _, stride, _, _ in spans],
        "pads": [pads[0] for _, _, pads, _ in spans] + [pads[1] for _, _, pads, _ in spans],
        "dilations": [dilation for _, _, _, dilation in spans],
    }


def _groups(draw: Draw, channels: int) -> int:
    divisors = [n for n in range(1, channels + 1) if channels % n == 0]
    return one_of(draw, 1, channels, *divisors)


def _conv(draw: Draw, net: Builder, x: Value) -> Value:
    channels = x.shape[1]
    group = _groups(draw, channels)
    out = group * (one_of(draw, 1, 2) if group > 1 else one_of(draw, *_CHANNELS))
    attributes = _windows(draw, x)
    kernel = attributes["kernel_shape"]
    if chance(draw) and chance(draw):
        del attributes["pads"]
        attributes["dilations"] = [1] * len(kernel)
        attributes["auto_pad"] = one_of(draw, "SAME_UPPER", "SAME_LOWER")
    terms = channels // group * math.prod(kernel)
    weights = net.weight(x.dtype, out, channels // group, *kernel, terms=terms)
    bias = [net.weight(x.dtype, out)] if chance(draw) else []
    y = net.add("Conv", x, weights, *bias, group=group, **attributes)
    if chance(draw) and chance(draw):
        y = _batch_norm(draw, net, y)
    return activated(draw, net, y)


def _conv_transpose(draw: Draw, net: Builder, x: Value) -> Value:
    channels, rank = x.shape[1], x.rank - 2
    group = _groups(draw, channels)
    out = one_of(draw, 1, 2) if group > 1 else one_of(draw, *_CHANNELS[:6])
    kernel, stride = one_of(draw, 2, 1, 3, 4), between(draw, 1, 3)
    pads = [between(draw, 0, (kernel - 1) // 2) for _ in range(2 * rank)]
    attributes = {"kernel_shape": [kernel] * rank, "strides": [stride] * rank, "pads": pads}
    if stride > 1 and chance(draw):
        attributes["output_padding"] = [between(draw, 0, stride - 1) for _ in range(rank)]
    terms = channels * kernel**rank // group
    weights = net.weight(x.dtype, channels, out, *[kernel] * rank, terms=terms)
    bias = [net.weight(x.dtype, out * group)] if chance(draw) else []
    return net.add("ConvTranspose", x, weights, *bias, group=group, **attributes)


def _pool(op: str) -> Operator:
    def make(draw: Draw, net: Builder, x: Value) -> Value:
        attributes = _windows(draw, x)
        if op == "AveragePool":
            attributes["count_include_pad"] = between(draw, 0, 1)
        exact = x.exact and op == "MaxPool"
        return net.add(op, x, exact=exact, **attributes)

    return Operator(op, _image_or_row, make)


def _global(op: str) -> Operator:
    def make(draw: Draw, net: Builder, x: Value) -> Value:
        return net.add(op, x, exact=x.exact and op == "GlobalMaxPool")

    return Operator(op, _image_or_row, make)


def _mat_mul(draw: Draw, net: Builder, x: Value) -> Value:
    """With constant weights, or with another value, turned so that it fits."""
    inner = x.shape[-1]
    if chance(draw):
        fitting = [v for v in net.values if _can_multiply(x, v)]
        if fitting:
            return _product(draw, net, x, one_of(draw, *reversed(fitting)))
    out = one_of(draw, *_CHANNELS)
    batch = [1] * between(draw, 0, max(0, x.rank - 3)) if chance(draw) else []
    y = net.add("MatMul", x, net.weight(x.dtype, *batch, inner, out, terms=inner))
    if chance(draw):
        y = net.add("Add", y, net.weight(x.dtype, out))
    return activated(draw, net, y)


def _can_multiply(x: Value, y: Value) -> bool:
    return (
        (x.dtype, x.rank, x.shape[:-2]) == (y.dtype, y.rank, y.shape[:-2])
        and x.shape[-1] in (y.shape[-1], y.shape[-2])
        and x.degree + y.degree <= 2
    )


def _product(draw: Draw, net: Builder, x: Value, y: Value) -> Value:
    if y.shape[-2] != x.shape[-1]:
        perm = [*range(y.rank - 2), y.rank - 1, y.rank - 2]
        y = net.add("Transpose", y, perm=perm)
    return net.add("MatMul", x, y, degree=x.degree + y.degree)


def _gemm(draw: Draw, net: Builder, x: Value) -> Value:
    turned = chance(draw) and chance(draw) and x.fixed(0)
    inner = x.shape[0] if turned else x.shape[1]
    out = one_of(draw, *_CHANNELS)
    back = between(draw, 0, 1)
    weights = net.weight(x.dtype, *((out, inner) if back else (inner, out)), terms=inner)
    bias = [net.weight(x.dtype, *one_of(draw, (out,), (1, out), (1,)))] if chance(draw) else []
    attributes = {"alpha": 0.5, "beta": 1.5} if chance(draw) and chance(draw) else {}
    y = net.add("Gemm", x, weights, *bias, transA=int(turned), transB=back, **attributes)
    return activated(draw, net, y)


_EQUATIONS = {
    2: ("ij,jk->ik", "ij,kj->ik", "ij,jk->ki"),
    3: ("bij,jk->bik", "bij,kj->bik"),
    4: ("bhij,jk->bhik", "bcij,cjk->bcik"),
}


def _einsum(draw: Draw, net: Builder, x: Value) -> Value:
    equation = one_of(draw, *_EQUATIONS[x.rank])
    first, second = equation.split("->")[0].split(",")
    sizes = {**dict(zip(first, x.shape, strict=True)), "k": one_of(draw, *_CHANNELS)}
    if isinstance(sizes.get("c", 1), str):
        equation, second = "bcij,jk->bcik", "jk"
    weights = net.weight(x.dtype, *(sizes[name] for name in second), terms=x.shape[-1])
    return net.add("Einsum", x, weights, equation=equation)


def _batch_norm(draw: Draw, net: Builder, x: Value) -> Value:
    channels = x.shape[1]
    scale, variance = (net.weight(x.dtype, channels, near=1.0) for _ in range(2))
    bias, mean = (net.weight(x.dtype, channels) for _ in range(2))
    return net.add("BatchNormalization", x, scale, bias, mean, variance)


def _instance_norm(draw: Draw, net: Builder, x: Value) -> Value:
    channels = x.shape[1]
    scale, bias = net.weight(x.dtype, channels, near=1.0), net.weight(x.dtype, channels)
    return net.add("InstanceNormalization", x, scale, bias, epsilon=1e-3, degree=1)


def _layer_norm(draw: Draw, net: Builder, x: Value) -> Value:
    axis = -2 if x.rank > 2 and x.fixed(-2) and chance(draw) else -1
    shape = x.shape[axis:]
    bias = [net.weight(x.dtype, *shape)] if chance(draw) else []
    weight = net.weight(x.dtype, *shape, near=1.0)
    return net.add("LayerNormalization", x, weight, *bias, axis=axis, epsilon=1e-3, degree=1)


def _norm_written_out(draw: Draw, net: Builder, x: Value) -> Value:
    """Layer or RMS normalisation as primitive operators, along any axis."""
    axes = net.ints(axis_of(draw, x))
    y = x
    if chance(draw):
        y = net.add("Sub", x, net.add("ReduceMean", x, axes))
    square = net.add("Mul", y, y) if chance(draw) else net.add("Pow", y, scalar(net, 2.0, y))
    variance = net.add("Add", net.add("ReduceMean", square, axes), scalar(net, 1e-2, x))
    root = net.add("Sqrt", variance)
    if chance(draw):
        y = net.add("Mul", y, net.add("Reciprocal", root), degree=1)
    else:
        y = net.add("Div", y, root, degree=1)
    if x.fixed(-1) and chance(draw):
        y = net.add("Mul", y, net.weight(x.dtype, x.shape[-1], near=1.0))
    return y


def _group_norm(draw: Draw, net: Builder, x: Value) -> Value:
    """As exporters write it: reshape, instance normalisation, reshape back, scale."""
    channels = x.shape[1]
    groups = one_of(draw, *(n for n in range(1, channels + 1) if channels % n == 0))
    sizes = [0 if isinstance(size, str) else size for size in x.shape]
    y = net.add("Reshape", x, net.ints(sizes[0], groups, -1))
    one, zero = net.constant([1] * groups, x.dtype), net.constant([0] * groups, x.dtype)
    y = net.add("InstanceNormalization", y, one, zero, epsilon=1e-3, degree=1)
    y = net.add("Reshape", y, net.ints(*sizes))
    ones = [1] * (x.rank - 2)
    y = net.add("Mul", y, net.weight(x.dtype, channels, *ones, near=1.0))
    return net.add("Add", y, net.weight(x.dtype, channels, *ones))


def _resize(draw: Draw, net: Builder, x: Value) -> Value:
    mode = one_of(draw, "nearest", "linear")
    place = one_of(draw, "asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
    attributes = {"mode": mode, "coordinate_transformation_mode": place}
    if mode == "nearest":
        # Others decide by the last bit which pixel is nearest.
        attributes |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    exact = x.exact and mode == "nearest"
    scales = [1.0, 1.0] + [one_of(draw, 2.0, 1.0, 3.0) for _ in x.shape[2:]]
    if all(x.fixed(axis) for axis in range(x.rank)) and chance(draw):
        sizes = [int(n * s) for n, s in zip(x.shape, scales, strict=True)]
        return net.add("Resize", x, None, None, net.ints(*sizes), exact=exact, **attributes)
    given = net.constant(scales, "float32")
    return net.add("Resize", x, None, given, exact=exact, **attributes)


def _squeeze_excitation(draw: Draw, net: Builder, x: Value) -> Value:
    channels, middle = x.shape[1], one_of(draw, 4, 1, 2, 8)
    ones = [1] * (x.rank - 2)
    mean = net.add("GlobalAveragePool", x)
    y = net.add("Conv", mean, net.weight(x.dtype, middle, channels, *ones, terms=channels))
    y = net.add("Relu", y)
    y = net.add("Conv", y, net.weight(x.dtype, channels, middle, *ones, terms=middle))
    gate = net.add(one_of(draw, "Sigmoid", "HardSigmoid"), y, degree=0)
    return net.add("Mul", *((x, gate) if chance(draw) else (gate, x)))


def _attention(draw: Draw, net: Builder, x: Value) -> Value:
    """Projections of x, heads apart, scaled products, softmax, heads together again."""
    width, heads = x.shape[2], one_of(draw, 2, 1, 4)
    size = one_of(draw, 4, 1, 3, 8)
    split = net.ints(0, 0 if isinstance(x.shape[1], str) else x.shape[1], heads, size)

    def projected(perm: list[int]) -> Value:
        y = net.add("MatMul", x, net.weight(x.dtype, width, heads * size, terms=width))
        y = net.add("Add", y, net.weight(x.dtype, heads * size)) if chance(draw) else y
        return net.add("Transpose", net.add("Reshape", y, split), perm=perm)

    q = projected([0, 2, 1, 3])
    scaled_first = chance(draw)
    factor = scalar(net, 1 / math.sqrt(size), x)
    q = net.add("Mul", q, factor) if scaled_first else q
    scores = net.add("MatMul", q, projected([0, 2, 3, 1]))
    scores = scores if scaled_first else net.add("Mul", scores, factor)
    if x.fixed(1) and chance(draw):
        scores = net.add("Add", scores, net.weight(x.dtype, *one_of(draw, (1,), (x.shape[1],) * 2)))
    weights = net.add("Softmax", scores, axis=-1, degree=0)
    y = net.add("MatMul", weights, projected([0, 2, 1, 3]), degree=1)
    y = net.add("Transpose", y, perm=[0, 2, 1, 3])
    y = net.add("Reshape", y, net.ints(0, 0 if isinstance(x.shape[1], str) else x.shape[1], -1))
    y = net.add("MatMul", y, net.weight(x.dtype, heads * size, width, terms=heads * size))
    return net.add("Add", x, y) if chance(draw) else y


def _recurrent(op: str) -> Operator:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]

    def make(draw: Draw, net: Builder, x: Value) -> Value:
        hidden = one_of(draw, 4, 1, 3, 8)
        direction = one_of(draw, "forward", "reverse", "bidirectional")
        ways, width = 1 + (direction == "bidirectional"), x.shape[2]
        w = net.weight(x.dtype, ways, gates * hidden, width, terms=width)
        r = net.weight(x.dtype, ways, gates * hidden, hidden, terms=hidden)
        bias = [net.weight(x.dtype, ways, 2 * gates * hidden)] if chance(draw) else []
        attributes = {"hidden_size": hidden, "direction": direction}
        if op == "GRU":
            attributes["linear_before_reset"] = between(draw, 0, 1)
        outputs = 3 if op == "LSTM" else 2
        keep = one_of(draw, *range(outputs)) if chance(draw) else 0
        return net.add(op, x, w, r, *bias, outputs=outputs, keep=keep, degree=0, **attributes)

    return Operator(op, lambda x: x.dtype == "float32" and x.rank == 3 and x.fixed(2), make)


def _image_or_row(x: Value) -> bool:
    return x.rank in (3, 4) and x.dtype in ("float32", "float16") and x.fixed(1)


def _layered(x: Value) -> bool:
    return x.floats and x.rank in (2, 3, 4) and x.fixed(-1)


def _channels(x: Value) -> bool:
    return x.floats and x.rank in (3, 4) and x.fixed(1)


def _roomy(x: Value) -> bool:
    return _image_or_row(x) and x.elements <= 4096


def _sequence(x: Value) -> bool:
    return x.floats and x.rank == 3 and x.fixed(2) and x.elements <= 4096


LAYERS = (
    Operator("Conv", _image_or_row, _conv),
    Operator("MatMul", _layered, _mat_mul),
    Operator("Gemm", lambda x: x.floats and x.rank == 2 and x.fixed(1), _gemm),
    _pool("MaxPool"),
    _pool("AveragePool"),
    _global("GlobalAveragePool"),
    _global("GlobalMaxPool"),
    Operator("BatchNormalization", _channels, _batch_norm),
    Operator("LayerNormalization", _layered, _layer_norm),
    Operator("InstanceNormalization", _image_or_row, _instance_norm),
    Operator("norm_written_out", lambda x: x.floats and x.rank > 1, _norm_written_out),
    Operator("group_norm", lambda x: _image_or_row(x) and _closed(x), _group_norm),
    Operator("ConvTranspose", _roomy, _conv_transpose),
    Operator("Resize", _roomy, _resize),
    Operator("Einsum", _layered, _einsum),
    Operator("squeeze_excitation", _image_or_row, _squeeze_excitation),
    Operator("attention", _sequence, _attention),
    *(_recurrent(op) for op in ("LSTM", "GRU", "RNN")),
)


def _closed(x: Value) -> bool:
    """Whether only the batch may be open."""
    return all(x.fixed(axis) for axis in range(1, x.rank))
