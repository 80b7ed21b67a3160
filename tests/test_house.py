"""The structure of the package, checked: what may import what, what is tested, what is listed."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tilewright
from tests.command_line import ROOT
from tilewright.compiler import pipeline, steps
from tilewright.passes.fusions import DEFAULT_FUSIONS
from tilewright.targets import CATALOG
from tilewright.targets.rules.catalogue import RULES

PACKAGE = ROOT / "tilewright"
FILES = sorted(PACKAGE.rglob("*.py"))

# A module may import from a lower layer and from its own package, never sideways or up.
LAYERS = {
    "errors": 0,
    "options": 1,
    "ops": 1,
    "passes": 2,
    "targets": 2,
    "compiler": 3,
    "verification": 4,
    "quantization": 4,
    "analysis": 5,
    "devices": 6,
    "autotune": 7,
    "api": 8,
    "tuning": 9,
    "fusions": 10,
    "cli": 10,
    "demo": 11,
    "__main__": 11,
}
# A module that is copied out of the package, and then uses it as any user does.
COPIED_OUT = {"compiler/bundle_run.py"}

# Modules without a test module of their own, and why.
NO_TEST_MODULE = {
    "targets/isa.py": "a table; tests/targets/test_target.py and test_catalog.py read it",
    "targets/rules/attention_nest.py": "tests/targets/rules/test_attention.py runs it",
    "targets/rules/attention_scores.py": "tests/targets/rules/test_attention.py has each mask",
    "targets/rules/row.py": "tests/targets/rules/test_norm.py and test_softmax.py run it",
    "verification/graph_builder.py": "tests/verification/test_graphs.py draws with it",
    "verification/graph_operators.py": "rows; tests/verification/test_graphs.py draws each",
    "verification/graph_rearranging.py": "rows; tests/verification/test_graphs.py draws each",
    "verification/graph_layers.py": "rows; tests/verification/test_graphs.py draws each",
    "devices/device.py": "a protocol; test_local.py and test_remote.py beside it fulfil it",
    "demo/__main__.py": "`make demo` runs it in CI: it needs Pillow and half a minute",
}
# Folders of tests by theme: they mirror no package.
THEMES = {"bad_input"}
MAX_LINES = 500
IMPORT_MILLISECONDS = 150


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _imported(path: Path) -> set[str]:
    """Every `tilewright.…` module that `path` names in an import, wherever it stands."""
    found = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "tilewright"}


def _layer(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "api"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_imports_point_one_way(path):
    own = _name(path).removesuffix(".py").split("/")[0]
    if own == "__init__" or _name(path) in COPIED_OUT:
        return
    assert own in LAYERS, f"say in LAYERS where {own} belongs"
    wrong = [
        name
        for name in _imported(path)
        if _layer(name) != own and LAYERS.get(_layer(name), LAYERS["api"]) >= LAYERS[own]
    ]
    assert not wrong, f"{_name(path)} is in layer {own} and imports {wrong}"


def _module_of(path: Path) -> str:
    parts = ["tilewright", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _needed_at_import(path: Path, known: set[str]) -> set[str]:
    """Modules of ours that importing `path` imports at once."""
    found = set()
    for node in _tree(path).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & known - {_module_of(path)}


def test_no_module_imports_itself_through_others():
    known = {_module_of(path) for path in FILES}
    needs = {_module_of(path): _needed_at_import(path, known) for path in FILES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, f"a circle: {' -> '.join([*above, module])}"
        if module not in done:
            for other in needs[module]:
                # A package imports its modules to offer their names: that is no circle.
                if not other.startswith(f"{module}.") and not module.startswith(f"{other}."):
                    visit(other, (*above, module))
            done.add(module)

    for module in needs:
        visit(module, ())


def _test_of(path: Path) -> Path:
    name = _name(path)
    if path.name != "__init__.py":
        return ROOT / "tests" / Path(name).with_name(f"test_{path.name}")
    folder = path.parent
    return ROOT / "tests" / folder.relative_to(PACKAGE) / f"test_{folder.name}.py"


def _has_code(path: Path) -> bool:
    kinds = (ast.FunctionDef, ast.ClassDef)
    return path.name != "__init__.py" or any(isinstance(n, kinds) for n in _tree(path).body)


@pytest.mark.parametrize("path", [p for p in FILES if _has_code(p)], ids=_name)
def test_every_module_has_its_test_module(path):
    if _name(path) in NO_TEST_MODULE:
        assert not _test_of(path).exists(), "take it off NO_TEST_MODULE"
        return
    assert _test_of(path).is_file(), f"write {_test_of(path).relative_to(ROOT)}"


def test_the_exceptions_are_modules_that_exist():
    assert {_name(path) for path in FILES} >= {*NO_TEST_MODULE, *COPIED_OUT}


def test_test_modules_test_a_module_that_exists():
    tested = {_test_of(path) for path in FILES}
    below = [
        path
        for folder in (ROOT / "tests").iterdir()
        if folder.is_dir() and folder.name not in THEMES
        for path in folder.rglob("test_*.py")
    ]
    assert [path for path in below if path not in tested] == []


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_no_file_is_long(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_LINES, f"{_name(path)} has {lines} lines: split it"


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(_tree(path)), f"{_name(path)} has no docstring"


@pytest.mark.parametrize("path", [p for p in FILES if "__all__" in p.read_text()], ids=_name)
def test_all_is_what_is_exported(path):
    module = importlib.import_module(_module_of(path))
    assert len(module.__all__) == len(set(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None
    public = {
        name.asname or name.name
        for node in _tree(path).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tilewright")
        for name in node.names
    }
    assert public <= set(module.__all__), "imported into the package, and not in __all__"


def test_the_front_page_lists_each_name_once():
    assert set(tilewright._HOME) == set(tilewright.__all__)
    shown = {
        alias.name
        for node in ast.walk(_tree(PACKAGE / "__init__.py"))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tilewright.")
        for alias in node.names
    }
    assert shown == set(tilewright.__all__), "the TYPE_CHECKING imports tell editors the same"


def test_the_names_of_optional_steps_are_those_of_the_pipeline():
    named: list[str] = []
    for stage in pipeline.STAGES:
        if stage.name == "fuse":
            named += [fusion.name for fusion in DEFAULT_FUSIONS]
        elif stage.optional:
            named.append(stage.name)
        if stage.name == "lower":
            named += steps.RULE_STEPS
    named += steps.PARTS
    assert tuple(named) == steps.OPTIONAL_STEPS
    assert len(set(named)) == len(named)
    assert tuple(rule.name for rule in RULES) == steps.RULES


def test_stages_have_names_of_their_own_and_reasons():
    names = [stage.name for stage in pipeline.STAGES]
    assert len(set(names)) == len(names)
    assert all(stage.why and not stage.why.endswith(".") for stage in pipeline.STAGES)


@pytest.mark.parametrize("row", CATALOG, ids=lambda row: row.name)
def test_each_target_names_its_source(row):
    assert len(row.source) > 15 and row.title


def test_target_names_are_unique():
    names = [row.name for row in CATALOG]
    assert len(set(names)) == len(names)
    # The same core may be in two machines: the first row then stands for both.
    cores = {(triple, row.mcpu) for row in CATALOG for triple in row.family_models}
    assert len({triple for triple, _ in cores}) == len(cores)


def _run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return done.stdout.strip()


HEAVY = ("numpy", "tvm", "tvm_ffi", "onnx", "onnxruntime", "rich")


def test_importing_the_package_imports_nothing_heavy():
    loaded = f"[name for name in {HEAVY} if name in sys.modules]"
    assert _run(f"import sys, tilewright; print({loaded})") == "[]"


def test_the_help_imports_nothing_heavy():
    loaded = f"[name for name in {HEAVY} if name in sys.modules]"
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from tilewright.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print({loaded})"
    )
    assert _run(code).splitlines()[-1] == "[]"


def test_importing_the_package_takes_a_moment():
    code = (
        "import time; start = time.perf_counter(); import tilewright; "
        "print(1000 * (time.perf_counter() - start))"
    )
    # The best of three: the machine may be busy.
    assert min(float(_run(code)) for _ in range(3)) < IMPORT_MILLISECONDS
