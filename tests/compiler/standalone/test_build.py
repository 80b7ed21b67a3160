from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest

from tests import models
from tests.compiling import compile_here, reference
from tilewright.compiler.standalone.machine import aligned
from tilewright.targets.toolchain import find_c_compiler

# Reads the input from a file, runs, and writes the output; in memory of the caller's own.
PROGRAM = """
#include "net.h"
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **words) {
  const int64_t dims[] = {2};
  struct net *model = net_create();
  if (net_resize(model, dims)) return 1;
  size_t bytes = net_input_bytes(model, 0), made = net_output_bytes(model, 0);
  char *x = malloc(bytes), *y = malloc(made + 1);
  FILE *file = fopen(words[1], "rb");
  if (fread(x, 1, bytes, file) != bytes) return 2;
  void *memory = NULL;
  if (posix_memalign(&memory, 64, net_workspace_bytes(model) + 64)) return 3;
  if (net_set_workspace(model, memory, 1) || !net_workspace_bytes(model)) return 4;
  const void *const inputs[] = {x};
  void *const outputs[] = {y + 1};
  int refused = net_run(model, inputs, outputs);
  fprintf(stderr, "%s\\n", net_error(model));
  if (!refused || net_set_workspace(model, memory, net_workspace_bytes(model))) return 5;
  net_set_threads(model, count);
  if (net_run(model, inputs, outputs)) return 6;
  fwrite(y + 1, 1, made, stdout);
  net_free(model);
  free(memory);
  return 0;
}
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("net")
    return compile_here(models.mlp_block("rows"), folder, standalone="net")


def test_a_library_needs_the_c_library_alone(work):
    done = subprocess.run(["nm", "-D", work.library], capture_output=True, text=True, check=True)
    needed = [line for line in done.stdout.splitlines() if re.match(r"\s+[Uw] ", line)]
    strange = [row for row in needed if "@GLIBC" not in row and " w _" not in row]
    assert needed and not strange and "TVM" not in done.stdout
    shown = re.findall(r" [TDBR] (\w+)", done.stdout)
    assert {name.split("_")[0] for name in shown} == {"net", "tilewright"}
    assert {n for n in shown if n.startswith("tilewright")} == {
        *("tilewright_launch", "tilewright_set_threads", "tilewright_share_workers"),
        "tilewright_weights_net",
    }


@pytest.mark.parametrize("static", [True, False], ids=["static", "shared"])
def test_a_program_with_cc_alone(work, static, tmp_path):
    (tmp_path / "main.c").write_text(PROGRAM)
    flags = ["-std=gnu11", "-Wall", "-Werror", "-pthread", "-I", work.folder]
    library = work.folder / ("model.a" if static else "model.so")
    command = [find_c_compiler(), *flags, tmp_path / "main.c", library, "-lm", "-o", tmp_path / "a"]
    subprocess.run(command, check=True)
    x = np.random.default_rng(0).standard_normal((1, 2, 32)).astype(np.float32)
    (tmp_path / "x.bin").write_bytes(x.tobytes())
    environment = {"LD_LIBRARY_PATH": str(work.folder)}
    done = subprocess.run(
        [tmp_path / "a", tmp_path / "x.bin"], capture_output=True, env=environment, check=True
    )
    found = aligned((1, 2, 32), np.dtype(np.float32))
    found[...] = np.frombuffer(done.stdout, np.float32).reshape(1, 2, 32)
    (wanted,) = reference(models.mlp_block("rows"), {"x": x})
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert b"the workspace has 1 bytes" in done.stderr


def test_two_models_in_one_program(work, tmp_path):
    other = compile_here(models.conv_net(), tmp_path, standalone="other")
    (tmp_path / "main.c").write_text(
        '#include "net.h"\n#include "other.h"\nint main(void) {\n'
        "  return !net_create() || !other_create();\n}\n"
    )
    folders = ["-I", work.folder, "-I", other.folder]
    archives = [work.folder / "model.a", other.folder / "model.a"]
    command = [find_c_compiler(), "-pthread", *folders, tmp_path / "main.c", *archives, "-lm"]
    subprocess.run([*command, "-o", tmp_path / "a"], check=True)
    subprocess.run([tmp_path / "a"], check=True)
