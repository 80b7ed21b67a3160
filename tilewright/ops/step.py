"""One elementwise step of a computation: an activation, or another thing done in a store."""

from __future__ import annotations

from dataclasses import dataclass

# Operators of one value, and of a value and a number.
ELEMENTWISE = (
    *("abs", "ceil", "cos", "erf", "exp", "floor", "log", "negative", "round", "rsqrt", "sign"),
    *("sin", "sqrt", "square"),
)
WITH_NUMBER = (
    *("add", "subtract", "subtract_from", "multiply", "divide", "divide_into", "power"),
    *("maximum", "minimum"),
)

# Step -> meaning of its parameters, in order; sizes are (height, width), padding is all begins,
# then all ends. A name that is not here is a user's own, with whatever parameters it has.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "bias": (),
    "residual": (),
    "scale": (),
    "layer_scale": ("axis",),
    "max_pool": (
        *("kernel_h", "kernel_w", "stride_h", "stride_w"),
        *("top", "left", "bottom", "right", "dilation_h", "dilation_w", "ceil"),
    ),
    "relu": (),
    "clip": ("low", "high"),
    "leaky_relu": ("alpha",),
    "prelu": ("axis", "sign"),
    "thresholded_relu": ("alpha",),
    "elu": ("alpha",),
    "celu": ("alpha", "beta"),
    "selu": ("alpha", "gamma"),
    "gelu": (),
    "gelu_tanh": (),
    "silu": (),
    "swish": ("alpha",),
    "sigmoid": (),
    "hard_sigmoid": ("alpha", "beta"),
    "hard_swish": ("alpha", "beta"),
    "softplus": (),
    "mish": (),
    "softsign": (),
    "tanh": (),
    **dict.fromkeys(ELEMENTWISE, ()),
    **dict.fromkeys(WITH_NUMBER, ("number",)),
}


@dataclass(frozen=True)
class Step:
    """A step by name, with every number that determines it; arrays are arguments of the group.

    | name | parameters, in order | y |
    |---|---|---|
    | bias | | x + b, one value per channel (column) or one in all |
    | residual | | x + r, of the shape of x |
    | scale | | x * s, s along the axes that a normalisation's weight has |
    | layer_scale | axis | x * s, s one value per element of the axis |
    | transpose | one per axis | the axes of x in this order |
    | max_pool | kernel 2, strides 2, padding 4, dilation 2, ceil | as ONNX's MaxPool |
    | relu | | max(x, 0) |
    | clip | low, high | min(max(x, low), high) |
    | leaky_relu | alpha | x where x > 0, else alpha * x |
    | prelu | axis, sign | x where x > 0, else sign * slope * x, a slope per element of the axis |
    | thresholded_relu | alpha | x where x > alpha, else 0 |
    | elu | alpha | x where x > 0, else alpha * (exp(x) - 1) |
    | celu | alpha, beta | x where x > 0, else alpha * (exp(x / beta) - 1) |
    | selu | alpha, gamma | gamma * elu(x) |
    | gelu | | x * (1 + erf(x / sqrt(2))) / 2 |
    | gelu_tanh | | x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2 |
    | silu | | x * sigmoid(x) |
    | swish | alpha | x * sigmoid(alpha * x) |
    | sigmoid | | 1 / (1 + exp(-x)) |
    | hard_sigmoid | alpha, beta | clip(alpha * x + beta, 0, 1) |
    | hard_swish | alpha, beta | x * hard_sigmoid(x) |
    | softplus | | log(1 + exp(x)) |
    | mish | | x * tanh(softplus(x)) |
    | softsign | | x / (1 + abs(x)) |
    | tanh | | tanh(x) |
    | abs, exp, ... (`ELEMENTWISE`) | | the operator of that name in Relax, of x |
    | add, power, ... (`WITH_NUMBER`) | number | the operator of that name, of x and the number |
    | subtract_from, divide_into | number | number - x, number / x |

    Raises ValueError when a name of this table has another number of parameters.
    """

    name: str
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        wanted = PARAMETERS.get(self.name, self.parameters)
        if len(wanted) != len(self.parameters):
            raise ValueError(f"{self.name}: parameters {self.parameters}, want {wanted}")

    def __str__(self) -> str:
        """As reports and records spell it, every digit kept: "clip(0, 6)"."""
        if not self.parameters:
            return self.name
        return f"{self.name}({', '.join(repr(p).removesuffix('.0') for p in self.parameters)})"
