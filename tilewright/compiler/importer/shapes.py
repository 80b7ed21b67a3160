"""The shapes a user gives: `--shape INPUT=1,3,224,224`, `--dim NAME=128`, `--dim NAME=1..512`.

Every open dimension gets a name first, so that two unnamed dimensions are never taken for
the same one; then names are bound, in all inputs at once.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping, Sequence

from tilewright.compiler.importer.model import OnnxModel
from tilewright.errors import ModelError, OptionError

# Sizes a symbolic dimension may take when nobody bounds it.
DEFAULT_BOUNDS = (1, (1 << 31) - 1)


def apply(
    model: OnnxModel,
    shapes: Mapping[str, Sequence[int]],
    dims: Mapping[str, int | tuple[int, int]],
) -> dict[str, tuple[int, int]]:
    """Fix the inputs of `model` in place; returns the bounds of the dimensions left open."""
    _name_open_dimensions(model)
    sizes = _sizes_from_shapes(model, shapes)
    for name, value in dims.items():
        size = value if isinstance(value, int) else None
        if size is not None and sizes.setdefault(name, size) != size:
            raise OptionError(
                f"--dim {name}={size} contradicts --shape, which makes it {sizes[name]}",
                hint="leave one of them out",
            )
    _check_names(model, dims)
    for value in model.inputs():
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    # What the file says about later tensors was true for its own input shapes only.
    del model.graph.value_info[:]
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return {
        name: dims[name] if isinstance(dims.get(name), tuple) else DEFAULT_BOUNDS
        for name in open_dimensions(model)
    }


def open_dimensions(model: OnnxModel) -> list[str]:
    """Names of the symbolic dimensions of the inputs, in order of appearance."""
    names = [
        dim.dim_param
        for value in model.inputs()
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    ]
    return list(dict.fromkeys(names))


def _name_open_dimensions(model: OnnxModel) -> None:
    names: dict[str, str] = {}
    for value in model.inputs():
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            # Exporters write -1 or "?" for an open dimension; 0 is an empty tensor.
            named = dim.HasField("dim_value") or dim.dim_param not in ("", "?")
            if not named or dim.dim_value < 0:
                dim.dim_param = f"{value.name}_d{axis}"
            if dim.dim_param and not dim.dim_param.isdecimal():
                dim.dim_param = _identifier(dim.dim_param, names)
            if dim.dim_param.isdecimal():
                dim.dim_value = _size(dim.dim_param, value.name)


def _identifier(text: str, names: dict[str, str]) -> str:
    """A name for the dimension `text`, the same for the same: TVM would read `2*n` as a product.

    `names` has those that are given.
    """
    if text not in names:
        plain = text
        if not re.fullmatch(r"[A-Za-z_][\w.]{0,63}", text, re.ASCII):
            plain = re.sub(r"\W+", "_", text, flags=re.ASCII)[:64].strip("_")
            plain = plain if re.match("[A-Za-z]", plain) else f"dim_{plain}"
        while plain in {*names.values(), *keyword.kwlist}:
            plain += "_"
        names[text] = plain
    return names[text]


def _size(text: str, name: str) -> int:
    """A size that is written where names are."""
    if len(text) > len(str(DEFAULT_BOUNDS[1])):
        raise ModelError(
            f"a dimension is called {text[:40]}",
            where=f"input {name!r}",
            expected=f"a name, or a size up to {DEFAULT_BOUNDS[1]}",
        )
    return int(text)


def _sizes_from_shapes(model: OnnxModel, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    inputs = {value.name: value.type.tensor_type.shape.dim for value in model.inputs()}
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in inputs:
            raise OptionError(
                f"--shape names an input the model does not have: {name!r}",
                expected=f"one of: {', '.join(inputs)}",
            )
        shown = ",".join(str(d.dim_param or d.dim_value) for d in inputs[name])
        if len(shape) != len(inputs[name]) or any(size < 0 for size in shape):
            raise OptionError(
                f"--shape {name}={','.join(map(str, shape))} does not fit",
                expected=f"{len(inputs[name])} sizes for [{shown}]",
            )
        for size, dim in zip(shape, inputs[name], strict=True):
            known = sizes.get(dim.dim_param) if dim.dim_param else dim.dim_value
            if known not in (None, size):
                raise OptionError(
                    f"--shape {name}={','.join(map(str, shape))} gives {size} "
                    f"where the model needs {known}",
                    expected=f"sizes for [{shown}]",
                )
            if dim.dim_param:
                sizes[dim.dim_param] = size
    return sizes


def _check_names(model: OnnxModel, dims: Mapping[str, int | tuple[int, int]]) -> None:
    names = open_dimensions(model)
    for name in dims:
        if name not in names:
            raise OptionError(
                f"--dim names a dimension the model does not have: {name!r}",
                expected=f"one of: {', '.join(names)}" if names else "no --dim: all are fixed",
            )
