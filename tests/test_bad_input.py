"""Whatever is wrong with a file, a flag or an array: one sentence, exit code 2, nothing left."""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import tilewright
from tests import models
from tests.command_line import command, refused, spawn
from tests.compiling import compile_here
from tilewright.compiler import artifact as artifact_module
from tilewright.compiler import runtime, sections
from tilewright.errors import (
    ArtifactError,
    InputError,
    ModelError,
    OptionError,
    OutputError,
    TargetError,
    UnsupportedModel,
)

# --- The model file -----------------------------------------------------------------------


def _broken(change) -> bytes:
    proto = models.linear()
    change(proto)
    return proto.SerializeToString()


def _opset(number: int) -> bytes:
    return _broken(lambda proto: setattr(proto.opset_import[0], "version", number))


def _ir(number: int) -> bytes:
    return _broken(lambda proto: setattr(proto, "ir_version", number))


def _without_nodes(proto: onnx.ModelProto) -> None:
    del proto.graph.node[:]


def _without_outputs(proto: onnx.ModelProto) -> None:
    del proto.graph.output[:]


def _undefined_tensor(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].input[1] = "nowhere"


def _twice_defined(proto: onnx.ModelProto) -> None:
    proto.graph.node[1].output[0] = "xw"


def _cycle(proto: onnx.ModelProto) -> None:
    proto.graph.node[0].input[0] = "y"


def _wrong_shapes(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 63


def _nan_weight(proto: onnx.ModelProto) -> None:
    array = models.weight("w", (64, 32))
    array[5, 7] = np.nan
    proto.graph.initializer[0].raw_data = array.tobytes()


def _short_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]


def _negative_dimension(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].dims[0] = -64


def _nameless_weight(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].name = ""


def _unknown_rank(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.ClearField("shape")


def _sequence_input(proto: onnx.ModelProto) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, (2, 3)))
    proto.graph.input.append(helper.make_value_info("many", kind))


def _sequence_output(proto: onnx.ModelProto) -> None:
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, (2, 32)))
    proto.graph.node.append(helper.make_node("SequenceConstruct", ["y"], ["many"]))
    proto.graph.output.append(helper.make_value_info("many", kind))


def _sparse_weight(proto: onnx.ModelProto) -> None:
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [1], [3])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [9]))


def _recursive_function(proto: onnx.ModelProto) -> None:
    node = helper.make_node("Again", ["a"], ["b"], domain="own")
    proto.functions.append(
        helper.make_function("own", "Again", ["a"], ["b"], [node], [helper.make_opsetid("own", 1)])
    )
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.graph.node[2].op_type, proto.graph.node[2].domain = "Again", "own"


GOOD = models.linear().SerializeToString()

BAD_FILES = {
    "empty": (b"", ModelError, ["the file is empty"]),
    "truncated": (GOOD[: len(GOOD) // 2], ModelError, ["truncated", "hint: if it was downloaded"]),
    "random_bytes": (np.random.default_rng(0).bytes(4096), ModelError, ["not an ONNX model"]),
    "text": (b"import torch\nmodel = 1\n", ModelError, ["not an ONNX model", "onnx.ModelProto"]),
    "html": (b"<!DOCTYPE html><html>404</html>", ModelError, ["not an ONNX model"]),
    "zip": (b"PK\x03\x04" + bytes(200), ModelError, ["not an ONNX model"]),
    "other_protobuf": (
        helper.make_tensor("t", TensorProto.FLOAT, [2], [1.0, 2.0]).SerializeToString(),
        ModelError,
        ["ONNX"],
    ),
    "no_nodes": (_broken(_without_nodes), ModelError, ["no nodes", "at least one"]),
    "no_outputs": (_broken(_without_outputs), ModelError, ["no outputs", "at least one"]),
    "future_ir": (_ir(99), UnsupportedModel, ["IR version 99", f"3 to {onnx.IR_VERSION}"]),
    "ancient_ir": (_ir(1), UnsupportedModel, ["IR version 1", "export the model again"]),
    "future_opset": (_opset(99), UnsupportedModel, ["operator set version 99", "older opset"]),
    "undefined_tensor": (_broken(_undefined_tensor), ModelError, ["not valid ONNX", "nowhere"]),
    "defined_twice": (_broken(_twice_defined), ModelError, ["not valid ONNX", "xw"]),
    "cycle": (_broken(_cycle), ModelError, ["not valid ONNX", "sorted"]),
    "shapes_clash": (_broken(_wrong_shapes), ModelError, ["shapes or types do not fit", "product"]),
    "nan_weight": (
        _broken(_nan_weight),
        ModelError,
        ["1 of 2048 weights are NaN", "'w'", "[5, 7]"],
    ),
    "short_weight": (_broken(_short_weight), ModelError, ["do not fit", "'w'", "[64, 32]"]),
    "negative_dimension": (_broken(_negative_dimension), ModelError, ["[-64, 32]", "'w'"]),
    "nameless_weight": (_broken(_nameless_weight), ModelError, ["no name"]),
    "unknown_rank": (
        _broken(_unknown_rank),
        UnsupportedModel,
        ["input 'x' has no rank", "export the model with input shapes"],
    ),
    "sequence_input": (
        _broken(_sequence_input),
        UnsupportedModel,
        ["input 'many'", "sequence", "expected: tensors"],
    ),
    "sequence_output": (
        _broken(_sequence_output),
        UnsupportedModel,
        ["output 'many' is a sequence_type", "expected: tensors"],
    ),
    "sparse_weight": (_broken(_sparse_weight), UnsupportedModel, ["sparse initialisers"]),
    "recursive_function": (_broken(_recursive_function), ModelError, ["Again"]),
    "bfloat16": (
        models.binary(kind=TensorProto.BFLOAT16).SerializeToString(),
        UnsupportedModel,
        ["bfloat16", "input 'a'", "float32"],
    ),
    "strings": (
        models.unary("Identity", kind=TensorProto.STRING).SerializeToString(),
        UnsupportedModel,
        ["tensors of type string", "input 'x'"],
    ),
    "no_element_type": (
        _broken(lambda proto: proto.graph.input[0].type.tensor_type.ClearField("elem_type")),
        ModelError,
        ["not valid ONNX", "elem_type"],
    ),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_refuses_the_file(case, model_file, nothing_left):
    data, kind, says = BAD_FILES[case]
    refused(kind, "compile", model_file(data), "-q", says=says)


@pytest.mark.parametrize("use", ["compile", "verify", "inspect", "bench"])
def test_every_command_says_that_the_file_is_missing(use, nothing_left):
    refused(ModelError, use, "absent.onnx", says=["no such file", "absent.onnx"])


def test_a_missing_model_is_answered_with_the_models_beside_it(model_file, nothing_left):
    path = model_file(GOOD, "resnet.onnx")
    refused(ModelError, "compile", path.with_name("resent.onnx"), says=["resnet.onnx"])


def test_refuses_a_folder_as_model(tmp_path, nothing_left):
    (tmp_path / "folder.onnx").mkdir()
    refused(ModelError, "compile", tmp_path / "folder.onnx", says=["not a file", ".onnx file"])


def test_lists_all_unsupported_operators_with_their_nodes(model_file, nothing_left):
    text = refused(
        UnsupportedModel,
        "compile",
        model_file(models.unsupported()),
        says=[
            "3 operators cannot be compiled",
            "my.domain.Add (1): foreign_add",
            "my.domain.Fancy (2): fancy_1",
            "fancy_2",
            "Det (1): determinant",
        ],
    )
    assert "docs/operators.md" in text


def test_an_add_of_a_foreign_domain_is_no_add(model_file, nothing_left):
    proto = models.binary("Add")
    proto.graph.node[0].domain = "my.domain"
    proto.opset_import.append(helper.make_opsetid("my.domain", 1))
    refused(
        UnsupportedModel,
        "compile",
        model_file(proto),
        says=["1 operator cannot", "my.domain.Add (1): the_add"],
    )


def test_a_converter_that_gives_up_names_the_node(model_file, nothing_left):
    proto = models.model(
        [helper.make_node("Reshape", ["x", "s"], ["y"], name="to_what")],
        [models.value("x", (2, 3)), models.value("s", ("rank",), models.INT64)],
        [models.value("y", (6,))],
    )
    refused(UnsupportedModel, "compile", model_file(proto), says=["to_what (Reshape)", "s: "])


def test_the_sentence_reaches_the_shell_with_exit_code_2(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    done = spawn("compile", "bad.onnx", cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 2 and done.stdout == ""
    assert "error: the file is not an ONNX model" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


# --- External data ------------------------------------------------------------------------


def _external(folder: Path, **entries: str) -> Path:
    """`models.linear()` with its weight in weights.bin; `entries` override what it says."""
    proto = models.linear()
    tensor = proto.graph.initializer[0]
    (folder / "weights.bin").write_bytes(tensor.raw_data)
    told = {"location": "weights.bin", "offset": "0", "length": str(len(tensor.raw_data))}
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in {**told, **entries}.items():
        tensor.external_data.add(key=key, value=text)
    path = folder / "external.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


EXTERNAL = {
    "absolute": ({"location": "/etc/hostname"}, ["inside the model's own folder", "/etc/hostname"]),
    "parent": ({"location": "../weights.bin"}, ["inside the model's own folder", "without '..'"]),
    "hidden_parent": ({"location": "a/../../weights.bin"}, ["inside the model's own folder"]),
    "windows_parent": ({"location": "..\\weights.bin"}, ["inside the model's own folder"]),
    "windows_drive": ({"location": "C:\\weights.bin"}, ["inside the model's own folder"]),
    "no_location": ({"location": ""}, ["inside the model's own folder"]),
    "missing": ({"location": "gone.bin"}, ["external data is missing", "'gone.bin'", "copy"]),
    "past_the_end": ({"offset": "4096"}, ["ends before the tensor does", "12288", "8192"]),
    "bad_offset": ({"offset": "-4"}, ["offset is '-4'", "a number of bytes"]),
    "offset_text": ({"offset": "0x10"}, ["offset is '0x10'"]),
    "wrong_length": ({"length": "100"}, ["100 bytes", "8192 bytes for [64, 32] of float32"]),
}


@pytest.mark.parametrize("case", EXTERNAL)
def test_refuses_external_data(case, tmp_path, nothing_left):
    entries, says = EXTERNAL[case]
    refused(ModelError, "compile", _external(tmp_path, **entries), says=["'w'", *says])


def test_refuses_external_data_behind_a_link(tmp_path, nothing_left):
    path = _external(tmp_path, location="link.bin")
    (tmp_path / "link.bin").symlink_to(tmp_path / "weights.bin")
    refused(ModelError, "compile", path, says=["without links"])


def test_refuses_external_data_behind_a_linked_folder(tmp_path, nothing_left):
    path = _external(tmp_path, location="link/weights.bin")
    (tmp_path / "link").symlink_to(tmp_path)
    refused(ModelError, "compile", path, says=["without links"])


def test_refuses_truncated_external_data(tmp_path, nothing_left):
    path = _external(tmp_path)
    os.truncate(tmp_path / "weights.bin", 100)
    refused(ModelError, "compile", path, says=["which has 100", "truncated"])


def test_refuses_external_data_in_a_constant_node(tmp_path, nothing_left):
    tensor = helper.make_tensor("t", TensorProto.FLOAT, [2, 3], bytes(24), raw=True)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    proto = models.model(
        [
            helper.make_node("Constant", [], ["c"], name="outside", value=tensor),
            helper.make_node("Add", ["x", "c"], ["y"]),
        ],
        [models.value("x", (2, 3))],
        [models.value("y", (2, 3))],
    )
    path = tmp_path / "constant.onnx"
    path.write_bytes(proto.SerializeToString())
    refused(UnsupportedModel, "compile", path, says=["outside (Constant)", "outside the file"])


# --- Flags --------------------------------------------------------------------------------

BAD_FLAGS = {
    "unknown_input": (["--shape", "z=2,64"], OptionError, ["'z'", "one of: x"]),
    "wrong_rank": (["--shape", "x=2,3,64"], OptionError, ["x=2,3,64", "2 sizes for [n,64]"]),
    "fixed_size": (["--shape", "x=2,65"], OptionError, ["gives 65 where the model needs 64"]),
    "unreadable_shape": (["--shape", "x=2,y"], OptionError, ["cannot read --shape x=2,y"]),
    "shape_without_name": (["--shape", "2,64"], OptionError, ["INPUT=1,3,224,224"]),
    "negative_size": (["--shape", "x=-2,64"], OptionError, ["cannot read --shape"]),
    "unknown_dim": (["--dim", "m=3"], OptionError, ["'m'", "one of: n"]),
    "contradiction": (
        ["--shape", "x=2,64", "--dim", "n=3"],
        OptionError,
        ["--dim n=3 contradicts", "makes it 2"],
    ),
    "unreadable_dim": (["--dim", "n=many"], OptionError, ["cannot read --dim n=many"]),
    "half_a_range": (["--dim", "n=3.."], OptionError, ["NAME=128 or NAME=1..512"]),
    "backward_range": (["--dim", "n=9..3"], OptionError, ["9..3", "low <= high"]),
    "target": (["-t", "x86-64-avx52"], TargetError, ["'x86-64-avx52'", "x86-64-avx512"]),
    "strange_target": (["-t", "toaster"], TargetError, ["native, or one of", "targets"]),
    "mcpu": (["-t", "llvm -mcpu=pentium"], TargetError, ["-mcpu=pentium", "x86-64-avx2"]),
    "tvm_flag": (["-t", "llvm -device=arm_cpu"], TargetError, ["-device=arm_cpu", "-mcpu="]),
    "mattr": (["-t", "llvm -mattr=avx2"], TargetError, ["'avx2' in -mattr", "+ or -"]),
    "mattr_unknown": (["-t", "llvm -mattr=+neon"], TargetError, ["'+neon'"]),
    "num_cores": (["-t", "llvm -num-cores=two"], TargetError, ["-num-cores=two"]),
    "no_cores": (["-t", "llvm -num-cores=0"], TargetError, ["0 cores", "at least 1"]),
    "triple": (["-t", "llvm -mtriple=aarch64-linux-gnu"], TargetError, ["aarch64", "x86_64"]),
    "disable": (["--disable", "fuse_opps"], OptionError, ["'fuse_opps'", "fuse_ops"]),
    "only": (["--only", "nothing"], OptionError, ["'nothing'", "fold_constants"]),
    "suffix": (["-o", "model.dll"], OptionError, ["'model.dll'", "ends in .so", "-o model.so"]),
    "no_folder": (["-o", "no/such/model.so"], OutputError, ["does not exist", "mkdir -p"]),
    "proc": (["-o", "/proc/model.so"], OutputError, ["cannot write there", "/proc"]),
    "bundle_folder": (["--bundle", "no/such/bundle"], OutputError, ["does not exist"]),
    "dump_folder": (["--dump", "no/such/dump"], OutputError, ["does not exist"]),
    "unchecked_bundle": (["--bundle", "b", "--no-verify"], OptionError, ["golden", "--no-verify"]),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_refuses_the_flag(case, model_file, nothing_left):
    flags, kind, says = BAD_FLAGS[case]
    refused(kind, "compile", model_file(models.linear("n")), "-q", *flags, says=says)


def test_refuses_an_output_below_a_file(model_file, tmp_path, nothing_left):
    (tmp_path / "file").write_text("not a folder")
    path = model_file(GOOD)
    refused(OutputError, "compile", path, "-o", tmp_path / "file" / "m.so", says=["does not exist"])


def test_refuses_an_output_that_is_a_folder(model_file, tmp_path, nothing_left):
    (tmp_path / "taken.so").mkdir()
    refused(OutputError, "compile", model_file(GOOD), "-o", tmp_path / "taken.so", says=["folder"])


def test_a_bundle_does_not_replace_a_folder_of_something_else(model_file, tmp_path, nothing_left):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    refused(
        OutputError,
        "compile",
        model_file(GOOD),
        "-q",
        "--bundle",
        tmp_path / "thesis",
        says=["something else than a bundle"],
    )
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"


@pytest.mark.parametrize("flag", ["--json=", "--html="])
def test_a_report_does_not_replace_a_model(flag, model_file, nothing_left):
    path = model_file(GOOD)
    refused(OptionError, "inspect", f"{flag}{path}", path, says=[flag[:-1], "file that ends in"])
    assert path.read_bytes() == GOOD


def test_json_before_the_model_reads_the_model(model_file, nothing_left, capsys):
    path = model_file(GOOD)
    assert command("inspect", "--json", path) == 0
    assert json.loads(capsys.readouterr().out)["nodes"] == 3
    assert path.read_bytes() == GOOD


def test_click_refuses_what_it_can_with_exit_code_2(tmp_path):
    done = spawn("compile", "m.onnx", "--threads", "0", cwd=tmp_path)
    assert done.returncode == 2 and "--threads" in done.stderr
    assert "Traceback" not in done.stderr


# --- A disk that is full ------------------------------------------------------------------


def _no_space(*_args: object, **_kwargs: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


@pytest.mark.parametrize("call", ["shutil.copyfile", "os.replace"])
def test_a_full_disk_at_the_end_leaves_the_old_library_alone(
    call, model_file, here, linear_library, monkeypatch
):
    (here / "model.so").write_bytes(b"the old one")
    module, _, name = call.partition(".")
    monkeypatch.setattr(getattr(artifact_module, module), name, _no_space)
    path = model_file(GOOD)
    refused(OutputError, "compile", path, "-q", "--no-verify", says=["No space left", "model.so"])
    assert (here / "model.so").read_bytes() == b"the old one"
    assert [p.name for p in here.iterdir()] == ["model.so"]


def test_a_real_write_limit_is_an_output_error_and_leaves_nothing(model_file, tmp_path):
    # A weight above the limit: the section file cannot be written.
    path = model_file(models.linear(inner=512, columns=512))
    place = tmp_path / "place"
    place.mkdir()
    limit = 600 * 1024

    def confine() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = spawn(
        "compile",
        path,
        "--no-verify",
        cwd=place,
        env={"TMPDIR": str(tmp_path / "place")},
        preexec_fn=confine,
    )
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr and "Traceback" not in done.stderr
    assert list(place.iterdir()) == []


# --- Artifacts ----------------------------------------------------------------------------


def _patched(library: Path, folder: Path, change) -> Path:
    """A copy of `library` whose manifest went through `change`; padded to its old length."""
    manifest = sections.read_manifest(library)
    before = json.dumps(manifest, sort_keys=True).encode()
    change(manifest)
    after = json.dumps(manifest, sort_keys=True).encode()
    data = library.read_bytes()
    assert data.count(before) == 1 and len(after) <= len(before)
    path = folder / "patched.so"
    path.write_bytes(data.replace(before, after.ljust(len(before))))
    return path


def _drop_titles(manifest: dict) -> None:
    """Make room for longer facts elsewhere."""
    manifest["target"]["title"] = manifest["target"]["source"] = ""
    manifest["options"] = {}


def test_refuses_an_artifact_that_is_no_library(tmp_path, nothing_left):
    (tmp_path / "no.so").write_bytes(b"just bytes")
    refused(
        ArtifactError, "run", tmp_path / "no.so", says=["damaged, or is no shared library", "no.so"]
    )


def test_refuses_a_missing_artifact(nothing_left):
    refused(ArtifactError, "run", "gone.so", says=["no such file", "a compiled .so"])


def test_refuses_somebody_elses_library(nothing_left):
    path = Path(sys.executable).resolve()
    refused(ArtifactError, "run", path, says=["not written by Tilewright", ".tilewright.manifest"])


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.99])
def test_refuses_a_truncated_artifact(share, linear_library, tmp_path, nothing_left):
    data = linear_library.read_bytes()
    path = tmp_path / "half.so"
    path.write_bytes(data[: int(len(data) * share)])
    refused(ArtifactError, "run", path, says=["half.so"])


def test_refuses_an_artifact_for_another_machine(linear_library, tmp_path):
    def change(manifest: dict) -> None:
        _drop_titles(manifest)
        manifest["needs"]["machine"] = "sparc64"

    with pytest.raises(ArtifactError, match="the artifact is for sparc64") as info:
        tilewright.load(_patched(linear_library, tmp_path, change))
    assert "x86_64, which this machine is" in info.value.expected


def test_refuses_an_artifact_of_another_tvm(linear_library, tmp_path):
    def change(manifest: dict) -> None:
        manifest["versions"]["apache-tvm"] = "0.9.0"

    with pytest.raises(ArtifactError, match=r"apache-tvm .* is installed") as info:
        tilewright.load(_patched(linear_library, tmp_path, change))
    assert "0.9.x" in info.value.expected and "pip install" in info.value.hint


def test_refuses_an_artifact_of_another_format(linear_library, tmp_path):
    path = _patched(linear_library, tmp_path, lambda manifest: manifest.update(format=9))
    with pytest.raises(ArtifactError, match="artifact format 9"):
        tilewright.load(path)


def test_refuses_a_damaged_manifest(linear_library, tmp_path):
    data = linear_library.read_bytes()
    path = tmp_path / "damaged.so"
    path.write_bytes(data.replace(b'{"dims":', b"?!dims?!", 1))
    with pytest.raises(ArtifactError, match="manifest is damaged"):
        tilewright.load(path)


def test_refuses_code_this_cpu_lacks_before_mapping_it(tmp_path, monkeypatch):
    library = compile_here(models.linear(), tmp_path, target="x86-64-avx512").library
    known = runtime.host.detect()
    few = frozenset(f for f in known.features if not f.startswith("avx512"))
    import dataclasses

    monkeypatch.setattr(runtime.host, "detect", lambda: dataclasses.replace(known, features=few))
    monkeypatch.setattr(runtime.ctypes, "CDLL", lambda *_: pytest.fail("the code was mapped"))
    with pytest.raises(ArtifactError, match="this CPU lacks avx512f") as info:
        tilewright.load(library)
    assert "x86-64-avx512" in info.value.expected and "-t native" in info.value.hint


def test_verify_needs_a_reference_for_an_artifact(linear_library, nothing_left):
    refused(
        OptionError,
        "verify",
        linear_library,
        says=["nothing to be compared with", "--model MODEL.onnx"],
    )


def test_verify_says_that_the_reference_is_missing(linear_library, nothing_left):
    refused(
        ArtifactError,
        "verify",
        linear_library,
        "--model",
        "gone.onnx",
        says=["reference model is missing", "gone.onnx"],
    )


@pytest.fixture
def bundle(model_file, here) -> Path:
    assert command("compile", model_file(GOOD), "-q", "--bundle", "bundle") == 0
    return here / "bundle"


def test_a_bundle_with_a_changed_file_is_refused_by_name(bundle):
    assert tilewright.verify(bundle).passed
    with (bundle / "golden_outputs.npz").open("ab") as file:
        file.write(b"!")
    refused(ArtifactError, "verify", bundle, says=["was changed", "golden_outputs.npz", "SHA-256"])
    (bundle / "run.py").unlink()
    (bundle / "golden_outputs.npz").unlink()
    refused(ArtifactError, "verify", bundle, says=["missing", "golden_outputs.npz"])
    (bundle / "manifest.json").write_text("[]")
    refused(ArtifactError, "verify", bundle, says=["not a bundle", "--bundle"])


def test_a_new_bundle_replaces_an_older_one(bundle, model_file):
    before = (bundle / "manifest.json").read_text()
    assert command("compile", model_file(models.conv_net()), "-q", "--bundle", bundle) == 0
    assert (bundle / "manifest.json").read_text() != before
    assert tilewright.verify(bundle).passed


# --- Arrays -------------------------------------------------------------------------------

X = np.zeros((2, 64), np.float32)

BAD_ARRAYS = {
    "dtype": ((X.astype(np.float64),), ["'x' is float64", "float32", "array.astype('float32')"]),
    "integers": (([[1, 2]],), ["'x' is int64"]),
    "shape": ((X[:, :63],), ["[2, 63]", "[2, 64]", "hint: "]),
    "rank": ((X[None],), ["[1, 2, 64]"]),
    "no_rank": ((np.float32(1),), ["has shape []"]),
    "none": ((), ["0 inputs given", "x: float32[2, 64]"]),
    "too_many": ((X, X), ["2 inputs given"]),
    "name": (({"y": X},), ["missing: x; unknown: y"]),
    "extra_name": (({"x": X, "y": X},), ["unknown: y"]),
    "nothing_named": (({},), ["missing: x"]),
    "object": ((None,), ["'x' is object"]),
}


@pytest.fixture(scope="module")
def linear(linear_library) -> runtime.Module:
    return tilewright.load(linear_library)


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_refuses_the_arrays(case, linear):
    arrays, says = BAD_ARRAYS[case]
    with pytest.raises(InputError) as info:
        linear(*arrays)
    for part in says:
        assert part in str(info.value)
    assert linear(X).shape == (2, 32), "the module still works afterwards"


def test_refuses_no_threads(linear_library):
    with pytest.raises(OptionError, match="0 threads"):
        tilewright.load(linear_library, threads=0)


BAD_INPUT_FLAGS = {
    "unknown_name": ("z=x.npy", InputError, ["gives z", "inputs of the model: x"]),
    "text_file": ("x=x.txt", OptionError, ["--input", "NAME=FILE.npy"]),
    "nameless": ("x.npy", OptionError, ["does not say which input", "NAME="]),
    "archive_by_name": ("x=x.npz", OptionError, ["several arrays"]),
    "missing_file": ("x=gone.npy", InputError, ["cannot read the array", "gone.npy"]),
    "not_numpy": ("x=bad.npy", InputError, ["cannot read the array", "bad.npy"]),
    "pickle": ("x=pickle.npy", InputError, ["cannot read the array", "pickle.npy"]),
    "other_names": ("other.npz", InputError, ["gives q"]),
    "nothing": ("empty.npz", InputError, ["no value for x", "--input random"]),
    "wrong_dtype": ("x=double.npy", InputError, ["'x' is float64"]),
}


@pytest.mark.parametrize("case", BAD_INPUT_FLAGS)
def test_refuses_the_input_flag(case, linear_library, here, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    np.save(given / "x.npy", X)
    np.save(given / "double.npy", X.astype(np.float64))
    np.savez(given / "x.npz", x=X)
    np.savez(given / "other.npz", q=X)
    np.savez(given / "empty.npz")
    np.save(given / "pickle.npy", np.array([{}], object), allow_pickle=True)
    (given / "bad.npy").write_text("no array")
    flag, kind, says = BAD_INPUT_FLAGS[case]
    name, equals, file = flag.rpartition("=")
    refused(
        kind,
        "run",
        linear_library,
        "-o",
        "out.npz",
        "--input",
        f"{name}{equals}{given / file}",
        says=says,
    )
    assert list(here.iterdir()) == []


def test_run_refuses_a_dimension_the_model_does_not_have(linear_library, nothing_left):
    refused(
        OptionError, "run", linear_library, "--dim", "n=3", says=["'n'", "the library is static"]
    )


def test_run_refuses_an_output_that_is_no_npz(linear_library, nothing_left):
    refused(OptionError, "run", linear_library, "-o", "out.txt", says=["ends in .npz"])


def test_no_c_compiler_says_how_to_get_one(model_file, nothing_left, monkeypatch):
    from tilewright.errors import ToolchainError

    monkeypatch.setenv("CC", "/no/such/compiler")
    refused(
        ToolchainError,
        "compile",
        model_file(GOOD),
        "-q",
        says=["no C compiler", "/no/such/compiler", "apt-get install gcc"],
    )
