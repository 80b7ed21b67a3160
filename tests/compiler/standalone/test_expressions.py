from __future__ import annotations

import subprocess

import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st
from tvm import tirx

from tilewright.compiler.standalone.expressions import PRELUDE, c_expression
from tilewright.errors import UnsupportedModel
from tilewright.targets.toolchain import find_c_compiler

N = tirx.Var("n.of things", "int64")
M = tirx.Var("m", "int64")
NAMES = {"n.of things": "dims[0]", "m": "dims[1]"}
EXPRESSIONS = (
    tirx.floordiv(N - 33, 64) + 1,
    tirx.floormod(N - 7, 5),
    tirx.truncdiv(N - 9, 4),
    tirx.truncmod(N - 9, 4),
    tirx.max(tirx.min(N, M), 3) * 2 - N,
    tirx.Select(N < M, N, M * 2),
    tirx.if_then_else(tirx.any(N >= 4, M == 2), N, tirx.IntImm("int64", -5)),
    tirx.Cast("int64", N) + tirx.IntImm("int64", 1 << 40),
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Prints every expression of the sizes that it is given."""
    folder = tmp_path_factory.mktemp("c")
    prints = [f'printf("%lld ", (long long)({c_expression(e, NAMES, "x")}));' for e in EXPRESSIONS]
    source = f"""#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
{PRELUDE}
int main(int count, char **words) {{
  int64_t dims[] = {{atoll(words[1]), atoll(words[count - 1])}};
  {" ".join(prints)}
  return 0;
}}
"""
    (folder / "a.c").write_text(source)
    subprocess.run([find_c_compiler(), folder / "a.c", "-o", folder / "a"], check=True)
    return folder / "a"


@given(st.integers(0, 200), st.integers(0, 9))
def test_c_computes_what_tvm_does(program, n, m):
    analyzer = tvm.sym.Analyzer()
    analyzer.bind(N, tirx.IntImm("int64", n))
    analyzer.bind(M, tirx.IntImm("int64", m))
    wanted = [int(analyzer.simplify(e)) for e in EXPRESSIONS]
    done = subprocess.run([program, str(n), str(m)], capture_output=True, text=True, check=True)
    assert list(map(int, done.stdout.split())) == wanted


def test_a_size_that_nobody_knows_is_refused():
    with pytest.raises(UnsupportedModel, match="C cannot be told: other") as info:
        c_expression(tirx.Var("other", "int64") + 1, NAMES, "value y")
    assert info.value.where == "value y" and info.value.hint
