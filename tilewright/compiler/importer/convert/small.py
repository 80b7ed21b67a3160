"""Converters that must know which of their values are of a small type.

Those are computed with in another type (`small_types`), which Relax sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnx import helper
from tvm import relax, te, tirx
from tvm.ir import is_prim_expr

from tilewright.compiler.importer.convert import quantization
from tilewright.compiler.importer.convert.minifloat import decoded, encoded, rounded
from tilewright.compiler.importer.convert.sizes import Converter, kernel
from tilewright.compiler.importer.graph import text
from tilewright.compiler.small_types import BITS, STORED, VALUES, computed_name

# The types of inputs and outputs, None for those that are not small; the attributes -> the
# converter, None where the usual one will do.
Chooser = Callable[[Sequence[str | None], dict], Converter | None]


def _cast(kinds: Sequence[str | None], attrs: dict) -> Converter | None:
    kind = kinds[-1]
    if kind is None:
        return None

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        x = inputs[0]
        if is_prim_expr(x):
            x = bb.emit(relax.op.shape_to_tensor(relax.ShapeExpr([x])))
            x = bb.emit(relax.op.reshape(x, []))
        elif isinstance(x.ty, relax.ShapeType):
            x = bb.emit(relax.op.shape_to_tensor(x))
        # bfloat16 does not saturate.
        saturate = bool(attrs.get("saturate", 1)) and kind != "bfloat16"
        return rounded(bb, x, kind, saturate, text(attrs.get("round_mode", "up")))

    return convert


def _quantize(kinds: Sequence[str | None], attrs: dict) -> Converter | None:
    kind, block = kinds[-1], int(attrs.get("block_size", 0))
    if kind is None and not block:
        return None

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        x, scale, zero = [*inputs, None][:3]
        into = kind or _quantised_type(attrs, zero)
        saturate = bool(attrs.get("saturate", 1))
        return quantization.quantize(
            bb, x, scale, zero, into, attrs.get("axis", 1), block, saturate
        )

    return convert


def _dequantize(kinds: Sequence[str | None], attrs: dict) -> Converter | None:
    block = int(attrs.get("block_size", 0))
    if not block and not any(kinds) and not attrs.get("output_dtype", 0):
        return None

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        x, scale, zero = [*inputs, None][:3]
        said = int(attrs.get("output_dtype", 0))
        into = computed_name(helper.tensor_dtype_to_np_dtype(said).name) if said else None
        return quantization.dequantize(bb, x, scale, zero, attrs.get("axis", 1), block, into)

    return convert


def _bit_cast(kinds: Sequence[str | None], attrs: dict) -> Converter | None:
    source, into = kinds[0], helper.tensor_dtype_to_np_dtype(int(attrs["to"])).name

    def convert(bb: relax.BlockBuilder, inputs: list, attrs: dict, opset: int) -> relax.Expr:
        """The same bits, of which both types have as many."""
        x = encoded(bb, inputs[0], source, False) if source in BITS else inputs[0]
        dtype = STORED.get(into, into)
        if str(x.ty.dtype) == "bool" or dtype == "bool":
            return relax.op.astype(x, dtype)
        if str(x.ty.dtype) != dtype:

            def compute(x: te.Tensor) -> te.Tensor:
                return te.compute(x.shape, lambda *at: tirx.reinterpret(dtype, x(*at)))

            x = kernel(bb, compute, x, name="bit_cast")
        if into in VALUES:
            return rounded(bb, x, into)
        return decoded(bb, x, into) if into in BITS else x

    return convert


def _quantised_type(attrs: dict, zero: relax.Expr | None) -> str:
    """What is quantised to where it is no small type."""
    if zero is not None:
        return str(zero.ty.dtype)
    said = attrs.get("output_dtype", 0)
    return str(helper.tensor_dtype_to_np_dtype(said)) if said else "uint8"


CONVERTERS: dict[str, Chooser] = {
    "BitCast": _bit_cast,
    "Cast": _cast,
    "CastLike": _cast,
    "DequantizeLinear": _dequantize,
    "QuantizeLinear": _quantize,
}
