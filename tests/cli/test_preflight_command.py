from __future__ import annotations

import json

import onnx

from tests import models
from tests.command_line import command, refused, spawn
from tests.net import Net
from tilewright.errors import ModelError


def test_a_model_that_will_compile(here, model_file, capsys):
    assert command("preflight", model_file(models.conv_net())) == 0
    out, err = capsys.readouterr()
    words = " ".join(out.split())
    assert out.rstrip().endswith("it will compile")
    assert "ai.onnx Conv 11 Tilewright 2 conv0, conv1" in words
    assert "opset 17" in words and "external data none" in words
    assert "fused groups" in words and "kFLOP" in words
    assert "import" in err and "codegen" not in err


def test_all_that_stands_in_the_way(here, model_file, capsys):
    assert command("preflight", model_file(models.unsupported()), "-q") == 1
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert "my.domain.Fancy: operators of the domain my.domain are not known" in lines
    assert "  where: 2 nodes: fancy_1 (my.domain.Fancy), fancy_2 (my.domain.Fancy)" in lines
    assert lines[-1] == "it will not compile: 3 things stand in the way"
    assert "NOT SUPPORTED" in out


def test_sizes_that_help_are_said_in_flags(here, model_file, capsys):
    net = Net(x=(4, 6))
    net.input("shape", ("k",))
    path = model_file(net.model(net.Flatten(net.Reshape("x", "shape"))))
    assert command("preflight", path, "-q") == 1
    out = capsys.readouterr().out
    flag = "--dim k=8"
    assert out.splitlines()[-1] == f"it will not compile as it is, but with {flag} it will"
    assert command("preflight", path, "-q", *flag.split()) == 0


def test_open_dimensions_are_listed(here, model_file, capsys):
    command("preflight", model_file(models.linear("rows")), "-q", "--dim", "rows=1..16")
    words = " ".join(capsys.readouterr().out.split())
    assert "rows 1 16 x nothing" in words
    assert "rows=1 4.16 kFLOP" in words and "rows=16 66.6 kFLOP 2.0 kB" in words


def test_json_and_page(here, model_file, capsys):
    path = model_file(models.unsupported())
    assert command("preflight", path, "--json") == 1
    assert json.loads(capsys.readouterr().out)["compiles"] is False
    assert command("preflight", path, "--json", "p.json", "--html", "p.html") == 1
    assert len(json.loads((here / "p.json").read_text())["findings"]) == 3
    assert "it will not compile" in (here / "p.html").read_text()


def test_external_data_with_its_size(here, model_file, capsys):
    path = model_file(models.linear())
    onnx.save_model(
        models.linear(), path, save_as_external_data=True, location="w.bin", size_threshold=1024
    )
    assert command("preflight", path, "-q") == 0
    assert "w.bin (8.2 kB)" in capsys.readouterr().out


def test_what_cannot_be_loaded(here, model_file, capsys):
    proto = models.linear()
    proto.opset_import[0].version = 999
    assert command("preflight", model_file(proto), "-q") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "operator set version 999" and "1 thing stands" in lines[-1]
    refused(ModelError, "preflight", model_file(b"noise", "bad.onnx"), says=["not an ONNX model"])
    refused(ModelError, "preflight", "nowhere.onnx", says=["no such file"])


def test_in_a_process_of_its_own(model_file, tmp_path):
    done = spawn("preflight", model_file(models.unsupported()), "--json", cwd=tmp_path)
    assert done.returncode == 1 and json.loads(done.stdout)["findings"]
    assert "normalise" in done.stderr
