"""Who converts an operator, and why nobody does: in the words of docs/operators.md."""

from __future__ import annotations

import onnx

from tilewright.compiler.importer.convert import table
from tilewright.compiler.importer.normalise.decompose_attention import DECOMPOSED
from tilewright.compiler.importer.normalise.quantised_operators import FLOATED

OURS, TVM, DEFINITION, NOBODY = "Tilewright", "TVM", "definition", "not yet"


def owner(domain: str, name: str, version: int | None = None) -> str:
    """OURS, TVM, ONNX's DEFINITION of it, or NOBODY; `version` is that of the operator set."""
    written_out = (domain, name) in DECOMPOSED or (domain == "" and name in FLOATED)
    if (domain, name) in table.OURS or written_out:
        return OURS
    if table.is_supported(onnx.helper.make_node(name, [], [], domain=domain)):
        return TVM
    schema = schema_of(domain, name, version)
    has_body = schema and (schema.has_function or schema.has_context_dependent_function)
    return DEFINITION if has_body and domain == "" else NOBODY


def schema_of(domain: str, name: str, version: int | None = None) -> onnx.defs.OpSchema | None:
    """ONNX's schema of an operator as of a version of its operator set; None where it has none."""
    try:
        if version is None:
            return onnx.defs.get_schema(name, domain=domain)
        return onnx.defs.get_schema(name, version, domain)
    except onnx.defs.SchemaError:
        return None


def why_not(domain: str, name: str) -> tuple[str, str]:
    """Why an operator that is left has no converter, and what to do about it."""
    if domain not in ("", "com.microsoft"):
        return (
            f"operators of the domain {domain} are not known",
            "write it with ONNX's own operators: as a function in the model, which is inlined, or "
            "before the export",
        )
    if domain == "com.microsoft":
        return (
            "this operator of ONNX Runtime's has no converter",
            "export without ONNX Runtime's graph optimisations, which put it there",
        )
    return (
        "it has no converter yet",
        "export the model without it, do that step outside the model, or report it",
    )
