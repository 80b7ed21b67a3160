"""README and docs/ are true: their examples run, and their tables are those of the code.

Blocks marked `sh` and `python` run, in order, in a folder of the page's own that holds
`model.onnx` and `dynamic.onnx`; `console` and `text` are for the eye. Python blocks of a page
share their names. But for the README's, commands run in copies of one process (doc_commands.py).
Lines that start with make or uv are not run here: .ci/run runs the former.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewright
from tests import models
from tests.command_line import command
from tilewright import errors
from tilewright.cli import COMMANDS, cli, console
from tilewright.compiler.artifact import BUNDLE_FILES
from tilewright.compiler.standalone import program
from tilewright.compiler.steps import OPTIONAL_STEPS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
MD = re.MULTILINE | re.DOTALL
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", MD)
RUN = ("sh", "python")

# One interpreter per page: shell blocks in a subprocess, Python blocks in shared globals.
DRIVER = """\
import json, sys
from tests.doc_commands import run
for language, place, text in json.load(open(sys.argv[1])):
    print("==", place, flush=True)
    run(language, place, text, fast=sys.argv[2] == "fast")
"""

# The command as installed, but `bench` measures for less than its ten seconds.
TILEWRIGHT = """\
#!{python}
import sys
from tilewright import api, cli
api.bench.__kwdefaults__["seconds"] = 0.1
sys.exit(cli.main())
"""


def small_net(batch: int | str = 1) -> onnx.ModelProto:
    """The model of the examples: convolution, ReLU, global pool, classifier"""
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w", "b"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        make("Relu", ["c"], ["r"], name="relu"),
        make("GlobalAveragePool", ["r"], ["p"], name="pool"),
        make("Flatten", ["p"], ["f"], name="flat"),
        make("Gemm", ["f", "v", "d"], ["y"], name="classifier", transB=1),
    ]
    shapes = {"w": (8, 3, 3, 3), "b": (8,), "v": (5, 8), "d": (5,)}
    weights = {name: models.weight(name, shape) for name, shape in shapes.items()}
    x, y = models.value("x", (batch, 3, 8, 8)), models.value("y", (batch, 5))
    return models.model(nodes, [x], [y], weights)


def embedding_net() -> onnx.ModelProto:
    """Token ids, an open dimension, a rate: what fills every key of a manifest"""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="gather"),
        helper.make_node("ReduceMean", ["rows"], ["y"], name="mean", axes=[1], keepdims=0),
        helper.make_node("Equal", ["rate", "wide"], ["is_wide"]),
    ]
    ids = models.value("ids", ("batch", 4), models.INT64)
    rate = models.value("rate", (), models.INT64)
    results = [models.value("y", ("batch", 32)), models.value("is_wide", (), TensorProto.BOOL)]
    weights = {"table": models.weight("table", (50, 32)), "wide": np.array(16000)}
    return models.model(nodes, [ids, rate], results, weights)


def _blocks(page: Path) -> list[tuple[str, str, str]]:
    """Language, place and text of each fenced block; the text keeps its line numbers."""
    content = page.read_text()
    found = []
    for match in FENCE.finditer(content):
        line = content[: match.start()].count("\n") + 1
        text = "\n" * line * (match[1] == "python") + match[2]
        found.append((match[1], f"{page.name}:{line}", text))
    return found


def _elsewhere(line: str) -> bool:
    return line.startswith(("make ", "uv "))


def _elsewhere_lines() -> list[str]:
    shell = [text for page in PAGES for language, _, text in _blocks(page) if language == "sh"]
    return [line for text in shell for line in text.splitlines() if _elsewhere(line)]


def _tables(page: Path) -> list[list[list[str]]]:
    """Every table of a page as rows of cells, without header and rule."""
    tables: list[list[list[str]]] = [[]]
    for line in page.read_text().splitlines():
        if line.startswith("|"):
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif tables[-1]:
            tables.append([])
    return [table[2:] for table in tables if table[2:]]


def _code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(page: Path, tmp_path: Path) -> None:
    blocks = [block for block in _blocks(page) if block[0] in RUN]
    blocks = [
        (language, place, "\n".join(li for li in text.split("\n") if not _elsewhere(li)))
        for language, place, text in blocks
    ]
    if not any(text.strip() for _, _, text in blocks):
        return
    folder, programs = tmp_path / "folder", tmp_path / "programs"
    folder.mkdir()
    programs.mkdir()
    (folder / "model.onnx").write_bytes(small_net().SerializeToString())
    (folder / "dynamic.onnx").write_bytes(small_net("batch").SerializeToString())
    (tmp_path / "blocks.json").write_text(json.dumps(blocks))
    command = programs / "tilewright"
    command.write_text(TILEWRIGHT.format(python=sys.executable))
    command.chmod(0o755)
    path = [str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]
    # The README's commands run as a user's do.
    speed = "as it is" if page.name == "README.md" else "fast"
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(tmp_path / "blocks.json"), speed],
        cwd=folder,
        env={**os.environ, "PATH": os.pathsep.join(path), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_say_whether_they_run(page: Path) -> None:
    languages = {language for language, _, _ in _blocks(page)}
    assert languages <= {*RUN, "console", "text"}
    assert page.read_text().count("```") == 2 * len(_blocks(page))


def test_ci_runs_the_make_lines_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    pattern = re.search(r"grep -E '([^']+)' README\.md", script)[1]
    found = re.findall(pattern.strip("^$"), (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(found) == ["demo", "test"]
    make = {line for line in _elsewhere_lines() if line.startswith("make ")}
    assert make == {"make demo", "make test"}
    rules = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"demo", "test"} <= set(rules)


def test_uv_lines_name_what_the_project_has() -> None:
    try:
        import tomllib
    except ImportError:  # Python 3.10, where pytest brings tomli along
        import tomli as tomllib
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    tools = {re.match(r"[\w-]+", text)[0] for text in project["dependency-groups"]["dev"]}
    lines = [line for line in _elsewhere_lines() if line.startswith("uv ")]
    assert lines
    for line in lines:
        words = shlex.split(line)
        assert words[:2] == ["uv", "run"]
        words = words[2:]
        if words[0] == "--extra":
            assert words[1] in extras
            words = words[2:]
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2])
        else:
            assert words[0] in {*tools, *project["project"]["scripts"]}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "tools/README.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert ROOT in (target, *target.parents), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in {_slug(heading) for heading in headings}, link


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_map_names_every_module() -> None:
    named = set(_code((DOCS / "map.md").read_text()))
    package = ROOT / "tilewright"
    modules = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    packages = {name for name in modules if name.endswith("/__init__.py")}
    top = {"__init__.py"}
    assert sorted(modules - packages - top - named) == []


def test_map_names_no_path_that_is_not_there() -> None:
    package = ROOT / "tilewright"
    # A bare name, such as `elementwise.py`, stands in a sentence that gives its folder.
    bare = {path.name for path in package.rglob("*.py")} | set(BUNDLE_FILES)
    for name in _code((DOCS / "map.md").read_text()):
        if re.fullmatch(r"[\w.-]+(/[\w.-]*)+|[\w-]+\.(py|md)", name) and "NAME" not in name:
            assert name in bare or (ROOT / name).exists() or (package / name).exists(), name


def test_map_shows_the_stages_in_order() -> None:
    from tilewright.compiler.pipeline import STAGES

    shown = re.findall(r"^ +-> (\w+) ", (DOCS / "map.md").read_text(), re.MULTILINE)
    assert shown == [*(stage.name for stage in STAGES), "verify"]
    text = (DOCS / "map.md").read_text()
    marked = re.findall(r"^ +-> (\w+) .* optional, -O(\d)$", text, re.MULTILINE)
    assert marked == [(stage.name, str(stage.level)) for stage in STAGES if stage.optional]


def _documented_flags() -> set[tuple[str, str]]:
    """(flag, command) for each row of the flag tables of docs/cli.md."""
    pairs = set()
    for row in (row for table in _tables(DOCS / "cli.md") for row in table if len(row) == 4):
        flags = re.findall(r"(?<![\w-])--?[A-Za-z][A-Za-z-]*", " ".join(_code(row[0])))
        pairs |= {(flag, command) for flag in flags for command in row[3].split(", ")}
    return pairs


def _commands() -> dict[str, list[click.Command]]:
    """Each command, with those below it where it has some."""
    root = click.Context(cli)
    found: dict[str, list[click.Command]] = {"tilewright": [cli]}
    for name in COMMANDS:
        command = cli.get_command(root, name)
        found[name] = [command, *getattr(command, "commands", {}).values()]
    return found


def test_flag_table_is_that_of_the_commands() -> None:
    root = click.Context(cli, **cli.context_settings)
    taken = {
        (flag, name)
        for name, commands in _commands().items()
        for command in commands
        for parameter in command.get_params(click.Context(command, parent=root))
        if isinstance(parameter, click.Option)
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }
    documented = _documented_flags()
    assert sorted(taken - documented) == [], "options that docs/cli.md lacks"
    assert sorted(documented - taken) == [], "documented options that no command takes"


def test_cli_page_has_a_section_and_an_example_for_every_command() -> None:
    text = (DOCS / "cli.md").read_text()
    for name in COMMANDS:
        section = re.search(rf"^## {name}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section, name
        assert f"```sh\ntilewright {name}" in section[1], name
    assert re.findall(r"^\| \[`(\w+)`\]", text, re.MULTILINE) == list(COMMANDS)


def test_cli_page_names_the_levels_and_stages() -> None:
    from tilewright.compiler.pipeline import STAGES, chosen_stages

    table = next(t for t in _tables(DOCS / "cli.md") if t[0][0] == "`-O0`")
    for level in range(3):
        names = {s.name for s in chosen_stages(tilewright.CompileOptions(opt_level=level))}
        expected = {s.name for s in STAGES if (s.optional or s.level) and s.name in names}
        shown = {name for row in table[: level + 1] for name in _code(row[1])}
        assert shown == expected
    two, three = (chosen_stages(tilewright.CompileOptions(opt_level=n)) for n in (2, 3))
    assert (two == three) == ("the same as `-O2`" in table[3][1])


def test_cli_page_lists_the_names_of_optional_steps() -> None:
    item = re.search(r"^- `--disable` and `--only`(.*?)^- ", (DOCS / "cli.md").read_text(), MD)
    assert tuple(_code(item[1])) == OPTIONAL_STEPS


def test_cli_page_lists_the_exit_codes() -> None:
    table = next(t for t in _tables(DOCS / "cli.md") if t[0][0] == "0")
    kinds = (errors.TilewrightError, *errors.TilewrightError.__subclasses__())
    codes = {0, console.EXIT_COULD_NOT_RUN, console.EXIT_INTERRUPTED}
    assert {int(row[0]) for row in table} == codes | {kind.exit_code for kind in kinds}


def test_python_page_shows_the_signatures() -> None:
    text = " ".join((DOCS / "python.md").read_text().split())
    for name in ("compile", "load", "verify", "preflight", "analyze", "bench"):
        shown = re.search(rf"`tilewright\.{name}(\([^`]*\)) -> (\w+)`", text)
        signature = inspect.signature(getattr(tilewright, name))
        bare = [
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in signature.parameters.values()
        ]
        expected = str(inspect.Signature(bare)).replace("'", '"')
        assert shown[1] == expected
        assert signature.return_annotation.startswith(shown[2])


def test_python_page_names_the_front_door() -> None:
    text = (DOCS / "python.md").read_text()
    assert [name for name in tilewright.__all__ if not re.search(rf"\b{name}\b", text)] == []
    cells = {
        name for table in _tables(DOCS / "python.md") for row in table for name in _code(row[0])
    }
    assert {f.name for f in dataclasses.fields(tilewright.CompileOptions)} <= cells
    public = {f.name for f in dataclasses.fields(tilewright.Artifact) if f.name[0] != "_"}
    assert public <= {re.match(r"\w+", cell)[0] for cell in cells}
    kinds = {kind.__name__ for kind in errors.TilewrightError.__subclasses__()}
    assert {cell for cell in cells if hasattr(errors, cell)} == kinds


# Their keys are names that users give, or file names.
_USERS_KEYS = (
    "dims",
    "shapes",
    "options.dims",
    "files",
    "versions",
    "check",
    "examples[].dims",
    "groups[].spec",
    "estimates[].sizes",
    "kernels[].spec",
    "fusion",
)


def _keys(value: Any, prefix: str = "") -> set[str]:
    """Every key of JSON values, such as `inputs[].name`."""
    if prefix not in _USERS_KEYS:
        if isinstance(value, dict) and value:
            start = f"{prefix}." if prefix else ""
            return set().union(*(_keys(v, f"{start}{k}") for k, v in value.items()))
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return set().union(*(_keys(v, f"{prefix}[]") for v in value))
    return {prefix}


def _documented_keys(page: Path, first: str) -> set[str]:
    """Keys in the first column of the table whose first key is `first`."""
    table = next(t for t in _tables(page) if _code(t[0][0])[:1] == [first])
    return {key for row in table for key in _code(row[0])}


@pytest.fixture(scope="module")
def bundle_manifest(tmp_path_factory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("bundle") / "out"
    options = tilewright.CompileOptions(dims={"batch": (1, 16)})
    tilewright.compile(embedding_net(), options=options).save_bundle(folder)
    files = {path.name for path in folder.iterdir()}
    page = (DOCS / "artifact.md").read_text()
    assert files == {*BUNDLE_FILES, *program.FILES, "manifest.json"}
    assert [name for name in files if f"`{name}`" not in page] == []
    return json.loads((folder / "manifest.json").read_text())


def test_artifact_page_lists_the_manifest_keys(bundle_manifest: dict[str, Any]) -> None:
    assert _documented_keys(DOCS / "artifact.md", "format") == _keys(bundle_manifest)
    row = next(r for t in _tables(DOCS / "artifact.md") for r in t if r[0] == "`versions`")
    assert [name for name in bundle_manifest["versions"] if name not in row[1]] == []


def test_verification_page_lists_the_report_keys(bundle_manifest: dict[str, Any]) -> None:
    documented = _documented_keys(DOCS / "verification.md", "passed")
    assert documented == _keys(bundle_manifest["check"])


def test_verification_page_computes_its_example_right(model_file) -> None:
    from tilewright.compiler.importer.load import load
    from tilewright.compiler.importer.normalise import normalise
    from tilewright.verification import budget, inputs

    model = load(model_file(small_net()))
    normalise(model)
    text = (DOCS / "verification.md").read_text()
    relative = budget.output_budgets(model, {})["y"].relative
    assert f"8 * 2^-24 * sqrt(101) = {relative:.2e}" in text
    assert f"**SAFETY** is {budget.SAFETY:g}." in text
    least, larger = inputs.sizes_to_try({name: [1, 99] for name in "abc"})
    more = ", ".join(str(larger[name] - least[name]) for name in "abc")
    assert f"({more}, ... more" in text


def test_bench_page_tells_the_method() -> None:
    from tilewright.analysis import latency

    text = " ".join((DOCS / "bench.md").read_text().split())
    seconds = inspect.signature(tilewright.bench).parameters["seconds"].default
    assert f"goes on for {seconds:g} seconds" in text
    assert f"at least {latency.MIN_CALLS} calls" in text
    assert f"{latency.BOOTSTRAPS} resamples" in text
    assert latency.BLOCK_SECONDS == 0.5
    assert "half a second" in text


def report_net() -> onnx.ModelProto:
    """Two equal blocks, an operator that stands alone and a near miss fill every key of a report"""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "kernel"], ["d"], name="computed_weights"),
        helper.make_node("Erf", ["d"], ["e0"], name="erf"),
    ]
    for n in range(2):
        nodes.append(helper.make_node("Conv", [f"e{n}", "square"], [f"s{n}"], name=f"square{n}"))
        nodes.append(helper.make_node("Relu", [f"s{n}"], [f"t{n}"], name=f"relu{n}"))
        nodes.append(helper.make_node("Softmax", [f"t{n}"], [f"e{n + 1}" if n == 0 else "y"]))
    shapes = {"x": ("batch", 3, 8, 8), "kernel": (4, 8, 1, 1)}
    inputs = [models.value(name, shape) for name, shape in shapes.items()]
    outputs = [models.value("y", ("batch", 4, 8, 8))]
    weights = {"w": models.weight("w", (8, 3, 3, 3)), "square": models.weight("s", (4, 4, 1, 1))}
    return models.model(nodes, inputs, outputs, weights)


def test_fusion_report_page_lists_the_keys(model_file, tmp_path: Path, capsys) -> None:
    page, model = DOCS / "fusion-report.md", model_file(report_net())
    assert command("inspect", model, "--json", tmp_path / "report.json") == 0
    assert "computed_weights" in capsys.readouterr().out
    facts = json.loads((tmp_path / "report.json").read_text())
    assert _documented_keys(page, "path") == _keys(facts)
    assert _documented_keys(page, "model") == _keys(facts["fusion"])


def test_preflight_page_lists_the_keys(model_file) -> None:
    """A file that compiles and one that does not fill every key between them."""
    path = model_file(report_net())
    onnx.save_model(
        report_net(), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    found = _keys(tilewright.preflight(path))
    nodes = [
        models.unconverted("x", "d", name="counts"),
        helper.make_node("Range", ["zero", "count", "one"], ["r"], name="range"),
    ]
    inputs = [models.value("x", ("n", 3), models.INT64), models.value("count", (), models.INT64)]
    outputs = [models.value("d", ("n", 3)), models.value("r", (None,), models.INT64)]
    weights = {"zero": np.int64(0), "one": np.int64(1)}
    found |= _keys(tilewright.preflight(models.model(nodes, inputs, outputs, weights)))
    found |= _keys(tilewright.preflight(models.model(nodes[1:], inputs[1:], outputs[1:], weights)))
    nulls = {"external", "findings", "dimensions", "computed_shapes"}
    assert _documented_keys(DOCS / "preflight.md", "path") == found - nulls


def test_fusion_report_page_lists_what_is_plumbing() -> None:
    from tilewright.analysis.cost import PLUMBING

    text = (DOCS / "fusion-report.md").read_text()
    shown = re.search(r"^- plumbing, which moves no data of its own: (.*?);", text, MD)
    assert set(re.findall(r"\w+", shown[1])) == PLUMBING


def _sections(page: Path) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_fusion_page_has_a_section_for_each_fusion_in_order() -> None:
    names = [fusion.name for fusion in tilewright.DEFAULT_FUSIONS]
    assert [name for name in _sections(DOCS / "fusions.md") if name in OPTIONAL_STEPS] == names
    for name, text in _sections(DOCS / "fusions.md").items():
        if name in names:
            assert "Before   " in text and "After    " in text and "Declines when" in text, name


def test_fusion_page_lists_the_fields_of_each_spec() -> None:
    from tilewright import ops

    text = (DOCS / "fusions.md").read_text()
    lists = re.findall(r"^`(\w+Spec)`: (`\w+`(?:,\s+`\w+`)*)[.]", text, re.MULTILINE)
    shown = {name: _code(fields) for name, fields in lists}
    assert len(shown) == len(lists) > 5
    for name, fields in shown.items():
        kinds = dataclasses.fields(getattr(ops, name))
        assert fields == [field.name for field in kinds if field.name != "dtype"], name


def test_fusion_page_lists_the_activations() -> None:
    from tilewright.passes.activations import ACTIVATIONS

    table = next(t for t in _tables(DOCS / "fusions.md") if t[0][0] == "`gelu`")
    assert sorted(row[0] for row in table) == sorted(f"`{name}`" for name, _ in ACTIVATIONS)


def test_page_on_adding_a_fusion_lists_the_patterns() -> None:
    from tilewright.passes import pattern

    table = next(t for t in _tables(DOCS / "adding-a-fusion.md") if t[0][0].startswith("`Any("))
    shown = {re.match(r"\w+", _code(row[0])[0])[0] for row in table}
    kinds = {kind.__name__ for kind in pattern.Pattern.__subclasses__()}
    assert shown == {*kinds, "maybe"}


def test_operator_page_is_up_to_date() -> None:
    from tools import operators

    assert operators.PAGE.read_text() == operators.page(), "run: python -m tools.operators"
