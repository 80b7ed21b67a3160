from __future__ import annotations

import subprocess

from tests.compiling import compile_here
from tests.net import Net
from tilewright.compiler.standalone.emit import header, source
from tilewright.compiler.standalone.plan import Place, Plan, Step, Tensor
from tilewright.targets.toolchain import find_c_compiler

INTERFACE = {
    "inputs": [{"name": 'a "strange" name */', "dtype": "float32", "shape": ["n", 3]}],
    "outputs": [{"name": "y", "dtype": "bfloat16", "shape": [2, 5]}],
    "dims": {"n": [1, 512]},
}
PLAN = Plan(
    ("n",),
    1,
    sizes=["dims[0]", "3", "2", "5", "12 * dims[0]"],
    tensors=[
        Tensor(Place("INPUT", 0), "float32", (0, 1)),
        Tensor(Place("OUTPUT", 0), "uint16", (2, 3)),
    ],
    steps=[Step("kernel", (("tensor", 0), ("tensor", 1), ("size", 0)))],
    blocks=[4],
    sources=[None],
)


def test_the_header_says_names_and_sizes():
    text = header("net", INTERFACE)
    assert r'/* input 0: "a \"strange\" name *\/", float32[n, 3] */' in text
    assert "bfloat16 in uint16[2, 5]" in text and '/* dimension 0: "n", 1..512 */' in text
    assert "#define NET_OUTPUT_0_BYTES 20" in text and "NET_INPUT_0_BYTES" not in text
    assert "int net_run(struct net *model," in text


def test_the_tables():
    text = source("net", PLAN, INTERFACE, {"kernel": "k_1"}, threads=3)
    assert "extern int k_1(void *, const struct tilewright_any *" in text
    assert (
        "{TILEWRIGHT_INPUT, 0, 0, 0, 2, 2, 32},\n  {TILEWRIGHT_OUTPUT, 0, 0, 2, 2, 1, 16}" in text
    )
    assert '{k_1, "kernel", 0, 3}' in text and "{0, -1},\n  {1, -1},\n  {-1, 0}" in text
    assert "sizes[4] = 12 * dims[0];" in text and "tilewright_use_threads(model, 3)" in text


def test_header_is_c_and_cpp(tmp_path):
    net = Net(x=(2, 3))
    work = compile_here(net.model(net.Relu("x")), tmp_path, standalone="net")
    for name, language in (("a.c", "c"), ("a.cpp", "c++")):
        (tmp_path / name).write_text('#include "net.h"\nint main(void) { return NET_DIMS; }\n')
        command = [find_c_compiler(), "-x", language, "-Wall", "-Werror", "-pedantic"]
        where = ["-I", work.folder, "-fsyntax-only", tmp_path / name]
        subprocess.run([*command, *where], check=True)
