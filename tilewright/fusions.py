"""Everything that a fusion of your own is written with (docs/adding-a-fusion.md).

    from tilewright.fusions import DEFAULT_FUSIONS, Any, Decline, Fusion, Op, Spec, shape_of

    MINE = Fusion("soft_cap", pattern(), accept)
    tilewright.compile("model.onnx", fusions=(*DEFAULT_FUSIONS, MINE))

Importing this module imports TVM, which `import tilewright` does not.
"""

from tilewright.ops.spec import Spec
from tilewright.ops.step import Step
from tilewright.passes.activations import activation, step_of
from tilewright.passes.fusion import Decline, Fusion
from tilewright.passes.fusions import DEFAULT_FUSIONS
from tilewright.passes.pattern import (
    Any,
    Both,
    Constant,
    Either,
    Fields,
    Graph,
    Item,
    Match,
    Number,
    Op,
    Pattern,
    Tagged,
    maybe,
)
from tilewright.passes.relax_constants import array_of
from tilewright.passes.shapes import is_per_channel, shape_of

__all__ = [
    "DEFAULT_FUSIONS",
    "Any",
    "Both",
    "Constant",
    "Decline",
    "Either",
    "Fields",
    "Fusion",
    "Graph",
    "Item",
    "Match",
    "Number",
    "Op",
    "Pattern",
    "Spec",
    "Step",
    "Tagged",
    "activation",
    "array_of",
    "is_per_channel",
    "maybe",
    "shape_of",
    "step_of",
]
