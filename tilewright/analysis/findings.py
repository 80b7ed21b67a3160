"""What stands in the way of a compilation, each with the nodes it is about and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from tilewright.analysis.operators import Key
from tilewright.compiler.importer.convert.survey import survey
from tilewright.compiler.importer.convert.table import unsupported
from tilewright.compiler.importer.graph import domain_of, label, qualified
from tilewright.compiler.importer.model import OnnxModel
from tilewright.compiler.importer.support import why_not
from tilewright.errors import TilewrightError, UnsupportedModel


@dataclass(frozen=True)
class Finding:
    """One refusal. `stage` is that of the compilation which it would end.

    `operator` and `nodes` are what it is about, where it is about nodes.
    """

    stage: str
    what: str
    where: str | None = None
    expected: str | None = None
    hint: str | None = None
    operator: str | None = None
    nodes: tuple[str, ...] = ()

    @staticmethod
    def of(stage: str, error: TilewrightError, *nodes: str, operator: str | None = None) -> Finding:
        """What `error` says."""
        return Finding(
            stage, error.what, error.where, error.expected, error.hint, operator, tuple(nodes)
        )

    @staticmethod
    def fault(stage: str, error: Exception) -> Finding:
        """An exception that nobody raised on purpose."""
        last = (str(error).strip().splitlines() or [""])[-1].strip()
        return Finding(
            stage,
            f"the compiler fails: {type(error).__name__}: {last[:300]}",
            hint="a fault of ours or of TVM, not of your model: please report it; -O1 or --disable "
            "may get around it",
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return {**asdict(self), "nodes": list(self.nodes)}


def without_converter(model: OnnxModel, earlier: UnsupportedModel | None) -> dict[Key, Finding]:
    """One for each operator of the normalised model that has no converter.

    `earlier` is what normalisation refused: where it names a node, it has the better reason.
    """
    found = {}
    for (domain, name), nodes in sorted(unsupported(model).items()):
        labels = tuple(label(node) for node in nodes)
        what, hint = why_not(domain, name)
        expected = None
        if earlier and any(text in (earlier.where or "") for text in labels):
            what, hint, expected = earlier.what, earlier.hint, earlier.expected
        found[domain, name] = Finding(
            "import", what, None, expected, hint, qualified(domain, name), labels
        )
    return found


def by_converters(model: OnnxModel, lanes: int) -> tuple[list[Finding], list[str]]:
    """Those of single nodes; and the nodes behind them that could not be looked at."""
    found = survey(model, lanes)
    operators = {label(n): qualified(domain_of(n), n.op_type) for n in model.graph.node}
    return [
        Finding.of("import", error, node, operator=operators[node])
        for node, error in found.refusals.items()
    ], found.unchecked
