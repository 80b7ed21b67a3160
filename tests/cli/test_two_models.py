"""`inspect --compare` and reports of earlier runs."""

from __future__ import annotations

import json

import pytest

from tests import models
from tests.command_line import command, refused
from tilewright import analyze
from tilewright.cli.two_models import read_report
from tilewright.errors import OptionError


def _columns(capsys) -> dict[str, list[str]]:
    """The comparison as printed: its rows by their first cell."""
    text = capsys.readouterr().out.split("comparison")[-1]
    rows = [line.split() for line in text.splitlines()]
    return {" ".join(row[:-2]): row[-2:] for row in rows if len(row) > 2}


def _traffic(path, **dims: int) -> str:
    from tilewright.cli.report import bytes_text
    from tilewright.options import CompileOptions

    return bytes_text(analyze(path, options=CompileOptions(dims=dims))["bytes_before"])


def test_each_model_takes_the_dimensions_it_has(here, model_file, capsys):
    one, two = model_file(models.linear("n"), "a.onnx"), model_file(models.linear("m"), "b.onnx")
    flags = ["--dim", "n=50", "--dim", "m=7", "--max-nodes", 0]
    for first, second in ((one, two), (two, one)):
        assert command("inspect", first, "--compare", second, *flags, "--json", "r.json") == 0
        size = {one: _traffic(one, n=50), two: _traffic(two, m=7)}
        text = " ".join(capsys.readouterr().out.split())
        assert f"traffic before {size[first]} {size[second]}" in text
    assert json.loads((here / "r.json").read_text())["inputs"][0]["shape"] == [7, 64]


def test_a_static_model_needs_no_dimension(here, model_file, capsys):
    fixed, open_ = model_file(models.linear(), "a.onnx"), model_file(models.linear("n"), "b.onnx")
    for pair in ((fixed, open_), (open_, fixed)):
        assert command("inspect", pair[0], "--compare", pair[1], "--dim", "n=2") == 0
        assert _columns(capsys)["operators in groups"] == ["100.0%", "100.0%"]


def test_each_model_takes_the_shapes_it_has(here, model_file, capsys):
    one, two = model_file(models.linear("n"), "a.onnx"), model_file(models.binary(), "b.onnx")
    assert command("inspect", one, "--compare", two, "--shape", "x=9,64", "--max-nodes", 0) == 0
    assert f"traffic before {_traffic(one, n=9)}" in " ".join(capsys.readouterr().out.split())


BAD = {
    "dim": (["--dim", "q=2"], ["--dim names a dimension that neither model has: 'q'", "n, m"]),
    "shape": (["--shape", "z=2,64"], ["--shape names an input that neither", "one of: x"]),
}


@pytest.mark.parametrize("case", BAD)
def test_what_neither_model_has_is_refused(case, model_file, nothing_left):
    flags, says = BAD[case]
    one, two = model_file(models.linear("n"), "a.onnx"), model_file(models.linear("m"), "b.onnx")
    refused(OptionError, "inspect", one, "--compare", two, *flags, says=says)


def test_a_shape_that_does_not_fit_the_other_names_it(model_file, nothing_left):
    one = model_file(models.linear("n"), "a.onnx")
    two = model_file(models.unary(), "b.onnx")
    flags = ["--shape", "x=9,64"]
    refused(
        OptionError, "inspect", one, "--compare", two, *flags, says=["--shape x=9,64", "b.onnx"]
    )


def test_compares_a_model_with_a_report_and_two_reports(here, model_file, capsys):
    path = model_file(models.linear("n"))
    command("inspect", path, "--dim", "n=3", "--json", "fused.json")
    command("inspect", path, "--dim", "n=3", "--disable", "linear", "--json", "plain.json")
    rows = {}
    for pair in ((path, "plain.json"), ("fused.json", "plain.json"), ("fused.json", path)):
        capsys.readouterr()
        flags = ["--dim", "n=3"] if path in pair else []
        assert command("inspect", pair[0], "--compare", pair[1], *flags) == 0
        rows[pair] = _columns(capsys)["linear groups"]
    assert list(rows.values()) == [["1", "0"], ["1", "0"], ["1", "1"]]


def test_shows_a_report_again(here, model_file, capsys):
    path = model_file(models.linear())
    command("inspect", path, "--json", "r.json")
    assert command("inspect", "r.json", "--html", "r.html") == 0
    assert "linear_0" in capsys.readouterr().out and "linear_0" in (here / "r.html").read_text()
    (here / "dumped.json").write_text(json.dumps(analyze(path)))
    command("inspect", "dumped.json", "--json")
    again = json.loads(capsys.readouterr().out)["fusion"]
    assert again == json.loads((here / "r.json").read_text())["fusion"]


def test_a_report_takes_no_flags_of_a_compilation(here, model_file):
    command("inspect", model_file(models.linear()), "--json", "r.json")
    for flags in (["--dim", "n=3"], ["-O1"], ["--disable", "linear"]):
        refused(
            OptionError,
            "inspect",
            "r.json",
            "--compare",
            "r.json",
            *flags,
            says=["finished already"],
        )


BAD_REPORTS = {"text": "no JSON", "list": "[1]", "number": "3", "manifest": '{"kernels": []}'}


@pytest.mark.parametrize("case", [*BAD_REPORTS, "missing"])
def test_what_is_no_report_is_refused(case, tmp_path):
    path = tmp_path / "r.json"
    if case in BAD_REPORTS:
        path.write_text(BAD_REPORTS[case])
    with pytest.raises(OptionError, match="cannot read the report") as info:
        read_report(path)
    assert info.value.where == str(path) and "--json FILE" in info.value.expected


def test_a_report_of_a_model_without_one_is_nothing_to_compare(here, model_file, capsys):
    command("inspect", model_file(models.unsupported(), "u.onnx"), "--json", "none.json")
    assert read_report(here / "none.json") is None
    capsys.readouterr()
    assert command("inspect", model_file(models.linear()), "--compare", "none.json") == 0
    assert "nothing to compare" in capsys.readouterr().out
    assert command("inspect", "none.json") == 0
    assert "no fusion report" in capsys.readouterr().out
