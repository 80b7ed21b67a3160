"""One valid spec of each kind."""

from __future__ import annotations

import dataclasses

from tilewright import ops
from tilewright.ops.attention import Operand

CONV = ops.ConvSpec(
    "float32",
    x=("n", 4, 8, 8),
    w=(8, 4, 3, 3),
    strides=(1, 1),
    padding=(1, 1, 1, 1),
    dilation=(1, 1),
    epilogue=(ops.Step("bias"), ops.Step("clip", (0, 6))),
)
CHAIN = ops.ConvChainSpec(
    "float32",
    first=dataclasses.replace(CONV, w=(8, 4, 1, 1), padding=(0, 0, 0, 0)),
    second=dataclasses.replace(CONV, x=("n", 8, 8, 8), w=(8, 1, 3, 3), groups=8),
)
CONCAT = ops.ConcatSpec("float32", parts=(CONV, ("n", 3, 8, 8)))
GEMM = ops.GemmSpec("float32", x=(2, "n", 4), w=(4, 8), constant_weights=True)
ATTENTION = ops.AttentionSpec(
    "float32",
    batch="n",
    heads=8,
    kv_heads=2,
    queries=5,
    keys=7,
    head_size=16,
    value_size=16,
    q=Operand(0, ("n", 8, 5, 16), ()),
    k=Operand(1, ("n", 2, 7, 16), (("transpose", (0, 1, 3, 2)),)),
    v=Operand(2, ("n", 2, 7, 16), ()),
    mask="add",
    mask_shape=(5, 7),
)
MLP = ops.MlpSpec(
    "float32",
    x=(2, 5, 8),
    hidden=32,
    out=8,
    activation=ops.Step("gelu"),
    hidden_bias=True,
    gated=False,
)
NORM = ops.NormSpec(
    "float32", method="rms", x=(2, 5, 8), axes=(2,), epsilon=1e-5, weight=True, bias=False
)
ROTARY = ops.RotarySpec("float32", x=(1, 4, "s", 8), cos=("s", 8), sin=("s", 8))
EMBEDDING = ops.EmbeddingSpec(
    "float32", tables=((9, 8),), ids=((1, 5),), position=(1, 5, 8), norm=NORM
)
ACTIVATION = ops.ActivationSpec("float32", function=ops.Step("elu", (0.3,)), x=(2, 5))
SOFTMAX = ops.SoftmaxSpec("float32", x=(2, 5), axis=1)
SQUEEZE = ops.SqueezeExcitationSpec(
    "float32",
    x=(1, 8, 4, 4),
    squeezed=2,
    biases=(True, False),
    activation=ops.Step("relu"),
    gate=ops.Step("sigmoid"),
    projection=CONV,
)
RECURRENT = ops.RecurrentSpec(
    "float32", cell="RNN", sequence="s", batch=2, hidden=8, activations=(ops.Step("tanh"),)
)

EXAMPLES = (
    CONV,
    CHAIN,
    CONCAT,
    GEMM,
    ATTENTION,
    MLP,
    NORM,
    ROTARY,
    EMBEDDING,
    ACTIVATION,
    SOFTMAX,
    SQUEEZE,
    RECURRENT,
)
