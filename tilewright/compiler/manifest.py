"""What an artifact says about itself, as JSON values.

The keys are documented in docs/artifact.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tilewright.compiler import sections
from tilewright.compiler.importer.input_values import input_rows
from tilewright.compiler.importer.model import check_dtype
from tilewright.compiler.importer.small_values import small_values
from tilewright.compiler.lower import GROUP, RULE
from tilewright.compiler.operations import operations
from tilewright.errors import UnsupportedModel

if TYPE_CHECKING:
    from tilewright.compiler.pipeline import Work

# Whose code is in the artifact or must load it, by distribution name.
VERSIONED = ("tilewright", "apache-tvm", "apache-tvm-ffi", "onnx", "numpy")


def interface(work: Work) -> dict[str, Any]:
    """Inputs, outputs and symbolic dimensions, read off the imported module."""
    from tvm import relax

    main = work.mod["main"]
    small = small_values(work.model)
    result = main.ret_ty
    fields = result.fields if isinstance(result, relax.TupleType) else [result]
    outputs = []
    for value, field in zip(work.model.graph.output, fields, strict=True):
        if not isinstance(field, relax.TensorType):
            raise UnsupportedModel(
                "an output is not a tensor", where=f"output {value.name!r}: {field}"
            )
        dtype = small.get(value.name, str(field.dtype))
        check_dtype(dtype, f"output {value.name!r}")
        outputs.append({"name": value.name, "dtype": dtype, "shape": _shown_shape(field)})
    return {
        "inputs": input_rows(work.model),
        "outputs": outputs,
        "dims": {name: list(bounds) for name, bounds in work.bounds.items()},
    }


def _shown_shape(kind: Any) -> list[int | str] | None:
    from tvm.tirx import IntImm

    if kind.shape is None:
        return None
    return [d.value if isinstance(d, IntImm) else str(d) for d in kind.shape]


def build_manifest(work: Work) -> dict[str, Any]:
    """The manifest of a finished compilation."""
    return {
        "format": sections.FORMAT,
        "name": work.path.stem,
        **work.interface,
        "target": work.target.to_dict(),
        "needs": {
            "machine": work.target.machine.name,
            "features": list(work.target.features),
            "glibc": work.tools.glibc,
        },
        "functions": work.functions,
        "threads": work.options.threads,
        "versions": {name: version(name) for name in VERSIONED},
        "model": {
            "file": work.path.name,
            "sha256": work.model.sha256,
            "opset": work.model.opset(),
            "nodes": work.nodes,
        },
        "options": work.options.to_dict(),
        "shapes": {name: list(shape) for name, shape in work.shapes.items()},
        "weights": {"bytes": work.weights.size_bytes, "tensors": work.weights.rows()},
        "kernels": kernel_calls(work),
        "tuning": asdict(work.tuning),
    }


def group_of(work: Work, kernel: str) -> str:
    """Name of the group whose work a kernel does; its own where there is none."""
    return str(work.mod[kernel].attrs.get(GROUP, kernel))


def kernel_calls(work: Work) -> list[dict[str, Any]]:
    """Every kernel with how often one run of `main` calls it, most called first.

    Of a kernel of ours: the fusion, its spec, and the ONNX nodes behind each call; a group may
    take several kernels. `rule` wrote its loop nest, and `flops` are its operations.
    """
    rows = []
    for name, calls in Counter(work.kernels).most_common():
        function = work.mod[name]
        group = group_of(work, name)
        found = [other for other in work.fusions.groups if other.kernel == group]
        rows.append(
            {
                "name": name,
                "calls": calls,
                "group": group,
                "fusion": found[0].fusion if found else None,
                "spec": found[0].spec.to_dict() if found else None,
                "rule": str(function.attrs.get(RULE, "fallback")),
                "flops": operations(function),
                "nodes": [other.nodes(work.origins) for other in found],
            }
        )
    return rows
