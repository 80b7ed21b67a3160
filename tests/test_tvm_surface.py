"""Everything we lean on in TVM, tvm-ffi and onnx, so that a new release fails here first.

TVM moves names between minor releases. The names we write are read off our own sources and
looked up; what we override, call on objects, or rely on without naming is listed below.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from importlib.metadata import requires, version
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

from tests import models
from tests.compiling import compile_here

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "tilewright").rglob("*.py"))
ROOTS = ("tvm", "tvm_ffi", "onnx", "onnxruntime")


def _spelled(node: ast.AST) -> list[str]:
    """`a.b.c` -> ["a", "b", "c"]; [] for anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (left := _spelled(node.value)):
        return [*left, node.attr]
    return []


def _names_used(path: Path) -> set[tuple[str, str]]:
    """(module, dotted name below it) for all that `path` takes from the libraries."""
    tree = ast.parse(path.read_text())
    homes: dict[str, str] = {}
    used: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] in ROOTS:
                    used.add((alias.name, ""))
                    homes[alias.asname or alias.name.split(".")[0]] = (
                        alias.name if alias.asname else alias.name.split(".")[0]
                    )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ROOTS:
            for alias in node.names:
                used.add((node.module, alias.name))
                homes[alias.asname or alias.name] = f"{node.module}:{alias.name}"
    for node in ast.walk(tree):
        parts = _spelled(node) if isinstance(node, ast.Attribute) else []
        if parts and parts[0] in homes:
            module, _, first = homes[parts[0]].partition(":")
            used.add((module, ".".join(filter(None, [first, *parts[1:]]))))
    return used


def _look_up(module: str, name: str) -> object:
    found = importlib.import_module(module)
    for part in filter(None, name.split(".")):
        if not hasattr(found, part) and inspect.ismodule(found):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    return found


USED = sorted(
    {
        (module, name, path.relative_to(ROOT).as_posix())
        for path in FILES
        for module, name in _names_used(path)
    }
)


@pytest.mark.parametrize("module, name", sorted({row[:2] for row in USED}))
def test_a_name_we_use_is_there(module, name):
    users = [path for m, n, path in USED if (m, n) == (module, name)]
    try:
        _look_up(module, name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{module} {version_of(module)} has no {name}: {error}; used in {users}")


def version_of(module: str) -> str:
    names = {"tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi"}
    root = module.split(".")[0]
    return version(names.get(root, root))


def test_the_names_were_found():
    assert len(USED) > 100
    assert ("tvm", "relax.transform.FuseOps") in {row[:2] for row in USED}


def test_the_pins():
    pins = {
        Requirement(text).name: str(Requirement(text).specifier)
        for text in requires("tilewright")
        if "extra" not in text
    }
    assert pins["apache-tvm"] == "==0.27.0.post1"
    assert "<0.1.15" in pins["apache-tvm-ffi"], "0.1.15 segfaults in tvm.ir.save_json"
    for name, specifier in pins.items():
        assert Requirement(f"{name}{specifier}").specifier.contains(version(name)), name


SCHEDULE = (
    *("cache_write", "compute_at", "compute_inline", "copy", "decompose_reduction", "fuse"),
    *("get", "get_child_blocks", "get_consumers", "get_loops", "get_sblock", "parallel"),
    *("reorder", "set_scope", "split", "unroll", "vectorize"),
)


def test_the_schedule_has_the_steps_we_take():
    from tvm.s_tir import Schedule

    used = set(
        re.findall(
            r"\b(?:sch|attempt)\.(\w+)\(",
            (ROOT / "tilewright/targets/rules/fallback.py").read_text(),
        )
    )
    assert used <= {*SCHEDULE}, "list the new ones here"
    assert [name for name in SCHEDULE if not hasattr(Schedule, name)] == []


@pytest.mark.parametrize(
    "name", ["emit", "normalize", "call_te", "get", "update_func", "dataflow", "function"]
)
def test_the_block_builder_has(name):
    from tvm import relax

    assert hasattr(relax.BlockBuilder, name)


IMPORTER = {
    "__init__": ["self", "shape_dict", "dtype_dict"],
    "from_onnx": ["self", "graph", "opset"],
    "_parse_graph_initializers": ["self", "graph"],
    "_check_for_unsupported_ops": ["self", "graph"],
    "_construct_nodes": ["self", "graph"],
    "_convert_operator": ["self", "op_name", "inputs", "attrs", "opset"],
}


@pytest.mark.parametrize("name", IMPORTER)
def test_the_importer_still_calls_what_we_override(name):
    from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

    method = getattr(ONNXGraphImporter, name)
    assert list(inspect.signature(method).parameters)[: len(IMPORTER[name])] == IMPORTER[name]
    if name.startswith("_") and name != "__init__":
        source = inspect.getsource(ONNXGraphImporter)
        assert f"self.{name}(" in source, "nobody calls it any more: our override is dead"


def test_the_importer_keeps_its_state_where_we_look():
    from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

    importer = ONNXGraphImporter(shape_dict={}, dtype_dict="float32")
    assert importer._nodes == {}
    assert type(importer.bb).__name__ == "BlockBuilder"


def test_the_converter_map_is_by_name_and_opset():
    from tvm.relax.frontend.onnx import onnx_frontend

    converters = onnx_frontend._get_convert_map()
    assert len(converters) > 150
    for name in ("Conv", "MatMul", "Gemm", "Softmax", "LayerNormalization", "Attention"):
        assert callable(converters[name].get_converter(17)), name


@pytest.mark.parametrize("group", ["_TVM_CONTRIB", "_TVM_MISNAMED"])
def test_the_converters_of_other_domains_have_the_names_we_exclude(group):
    from tvm.relax.frontend.onnx import onnx_frontend

    from tilewright.compiler.importer.convert import table

    assert set(getattr(table, group)) <= set(onnx_frontend._get_convert_map())


@pytest.mark.parametrize(
    "ours", ["LOWERINGS", "_CONVOLUTIONS", "_FOLDED", "ELEMENTWISE", "RETYPING"]
)
def test_the_operators_in_our_tables_are_registered(ours):
    import tvm

    from tilewright.passes import fold_constants, legalize, simplify, weight_scale

    home = next(
        module
        for module in (fold_constants, legalize, simplify, weight_scale)
        if hasattr(module, ours)
    )
    for name in getattr(home, ours):
        assert tvm.ir.Op.get(name).name == name


def test_a_constant_is_a_generic_const_with_a_tensor():
    from tvm import relax
    from tvm.ir import GenericConst

    made = relax.const(np.float32([1, 2]))
    assert isinstance(made, GenericConst)
    assert made.value.numpy().tolist() == [1, 2]


def test_the_mutator_visits_constants_and_tuple_items_by_these_names():
    from tvm.relax.expr_functor import PyExprMutator

    for name in (
        "visit_generic_const_",
        "visit_tuple_getitem_",
        "visit_call_",
        "visit_expr_post_order",
        "lookup_binding",
        "visit_expr",
    ):
        assert hasattr(PyExprMutator, name), name


def test_batch_norm_has_the_attributes_we_fold():
    from tvm import relax

    x = relax.Var("x", relax.TensorType((1, 3, 4, 4), "float32"))
    stat = relax.const(np.ones(3, np.float32))
    call = relax.op.nn.batch_norm(x, stat, stat, stat, stat, axis=1)
    for name in ("axis", "epsilon", "center", "scale", "training"):
        assert getattr(call.attrs, name) is not None, name


@pytest.mark.parametrize(
    "name, parameters",
    [("fcompile", None), ("addons", None), ("workspace_dir", None)],
)
def test_export_library_takes(name, parameters):
    from tvm import relax

    assert name in inspect.signature(relax.VMExecutable.export_library).parameters


def test_the_build_takes_our_pipeline():
    from tvm import relax

    assert "relax_pipeline" in inspect.signature(relax.build).parameters


def test_a_function_is_saved_as_the_same_text_each_time():
    """The key of a kernel in the cache is made of it; `test_kernels.py` asks other processes."""
    import tvm
    from tvm import te

    x = te.placeholder((4,), name="x")
    function = te.create_prim_func([x, te.compute((4,), lambda i: x[i] + 1.0, name="y")])
    saved = tvm.ir.save_json(function)
    assert saved == tvm.ir.save_json(function) and "global_symbol" in saved
    assert saved != tvm.ir.save_json(function.without_attr("global_symbol"))


def test_kernels_launch_through_a_variable_that_we_may_define():
    """What `tilewright/compiler/pool.c` builds on."""
    import tvm
    from tvm.script import tirx as T

    @T.prim_func
    def probe(x: T.Buffer((64,), "float32")):
        T.func_attr({"global_symbol": "probe"})
        for i in T.parallel(64):
            x[i] = T.float32(0)

    source = tvm.tirx.build(probe, target={"kind": "llvm"}).inspect_source("ll")
    assert re.search(r"@__TVMBackendParallelLaunch = (weak|linkonce)\w* .*global ptr null", source)
    # No number of tasks: whoever launches chooses it.
    assert re.search(r"call i32 %\w+\(ptr \S+ @\w+, ptr \S+ %\w+, i32 0\)", source)


def test_the_runtime_library_lies_where_the_loader_looks():
    spec = importlib.util.find_spec("tvm")
    folder = Path(next(iter(spec.submodule_search_locations)))
    assert (folder / "lib" / "libtvm_runtime.so").is_file()


def test_a_library_has_the_functions_the_loader_calls(tmp_path):
    import tvm_ffi

    library = compile_here(models.linear(), tmp_path, disable=("tables",)).library
    machine = tvm_ffi.load_module(str(library))["vm_load_executable"]()
    for name in ("vm_initialization", "main"):
        assert machine[name] is not None


def test_the_legalizer_takes_a_map():
    from tvm import relax

    assert "customize_legalize_map" in inspect.signature(relax.transform.LegalizeOps).parameters


def test_a_target_is_a_dictionary():
    import tvm

    made = tvm.target.Target({"kind": "llvm", "mcpu": "x86-64", "mattr": ["-avx"], "num-cores": 2})
    assert made.kind.name == "llvm" and made.attrs["num-cores"] == 2


def test_the_larger_of_zero_and_nan_is_nan_only_with_the_constant_first():
    """What `tilewright.passes.legalize` builds on."""
    import tvm
    from tvm import te, tirx

    x = te.placeholder((1,), "float32", name="x")
    zero = tirx.const(0, "float32")
    keeps = te.compute((1,), lambda i: tirx.max(zero, x[i]), name="keeps")
    loses = te.compute((1,), lambda i: tirx.max(x[i], zero), name="loses")
    function = te.create_prim_func([x, keeps, loses]).with_attr("global_symbol", "probe")
    built = tvm.tirx.build(function, target={"kind": "llvm"})
    a, b, c = (tvm.runtime.tensor(np.full(1, v, np.float32)) for v in (np.nan, 7, 7))
    built["probe"](a, b, c)
    assert np.isnan(b.numpy()[0]) and c.numpy()[0] == 0


def test_onnx_has_what_the_importer_asks():
    import onnx

    assert onnx.IR_VERSION >= 10 and onnx.defs.onnx_opset_version() >= 21
    assert list(inspect.signature(onnx.inliner.inline_local_functions).parameters)[:2] == [
        "model",
        "convert_version",
    ]
