"""Write docs/operators.md from the converters that are there: python -m tools.operators

Says for each ONNX operator who converts it. tests/test_docs.py fails when the page is old.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from tvm.relax.frontend.onnx import onnx_frontend

from tilewright.compiler.importer.convert import table
from tilewright.compiler.importer.normalise.decompose_attention import DECOMPOSED
from tilewright.compiler.importer.support import DEFINITION, NOBODY, OURS, TVM, owner

PAGE = Path(__file__).resolve().parents[1] / "docs" / "operators.md"

_OWNERS = (OURS, TVM, DEFINITION, NOBODY)
_HEAD = """\
# Operators

The ONNX operators that compile. This page is generated from
[convert/table.py](../tilewright/compiler/importer/convert/table.py) by `python -m tools.operators`;
a test fails when it is old.

- **Tilewright**: the converter is ours, because TVM has none or gives other answers than ONNX;
  attention operators are written out as MatMul and Softmax, and those on quantised tensors as the
  same on floats.
- **TVM**: the converter is that of TVM's ONNX importer.
- **definition**: there is no converter, and the node is replaced by ONNX's own definition of it,
  whose operators must have one; [the ledger](../benchmarks/conformance.json) has the tests that
  pass.
- **not yet**: there is none. Compilation stops with one error that lists every such operator of
  the model and its nodes.

Three things this table cannot tell:

- A converter may still refuse an attribute, a data type or an open shape. The error then names
  the node and its inputs.
- An operator that depends on constants alone is computed at compile time by `onnx`'s own reference
  evaluator and needs no converter, unless it is random or would make the library much larger.
  Functions that the model itself defines are inlined.
- A conversion is not a proof. The comparison with ONNX Runtime after each compilation is
  ([verification.md](verification.md)).

`tilewright preflight model.onnx` lists the operators of one model with who converts each, runs the
conversion, and says whether the model will compile.
"""


def standard_operators() -> list[onnx.defs.OpSchema]:
    """The newest schema of each operator of the default domain, by name."""
    schemas = [s for s in onnx.defs.get_all_schemas() if s.domain == ""]
    return sorted(schemas, key=lambda schema: schema.name)


def contrib_operators() -> list[str]:
    """ONNX Runtime's own operators (com.microsoft) that have a converter."""
    ours = (*table.OURS, *DECOMPOSED)
    known = {name for domain, name in ours if domain == "com.microsoft"}
    known |= set(onnx_frontend._get_convert_map())
    return sorted(name for name in known if owner("com.microsoft", name) != NOBODY)


def page() -> str:
    """The text of docs/operators.md."""
    rows = [(schema, owner("", schema.name)) for schema in standard_operators()]
    counts = {who: sum(o == who for _, o in rows) for who in _OWNERS}
    lines = [
        _HEAD,
        f"## ai.onnx, opset {onnx.defs.onnx_opset_version()}",
        "",
        f"{len(rows)} operators: {counts['TVM']} through TVM, {counts['Tilewright']} through "
        f"Tilewright, {counts['definition']} by their definition, {counts['not yet']} not yet.",
        "",
        "| operator | converted by |",
        "|---|---|",
        *(f"| {_shown(schema)} | {_marked(who)} |" for schema, who in rows),
        "",
        "## com.microsoft",
        "",
        "ONNX Runtime's own operators. Only these have a converter; other domains have none.",
        "",
        "| operator | converted by |",
        "|---|---|",
        *(f"| {name} | {owner('com.microsoft', name)} |" for name in contrib_operators()),
    ]
    return "\n".join(lines) + "\n"


def _shown(schema: onnx.defs.OpSchema) -> str:
    if schema.deprecated:
        return f"{schema.name} (removed from ONNX in opset {schema.since_version})"
    return schema.name


def _marked(who: str) -> str:
    return TVM if who == TVM else f"**{who}**"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
