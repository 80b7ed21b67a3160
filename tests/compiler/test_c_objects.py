from __future__ import annotations

import dataclasses

import pytest

from tilewright.compiler.c_objects import compile_c
from tilewright.compiler.kernel_cache import KernelCache
from tilewright.targets.toolchain import HOST


@pytest.fixture
def counted(monkeypatch):
    """The sources that were compiled, in order."""
    found, stock = [], type(HOST).compile_c
    monkeypatch.setattr(
        type(HOST), "compile_c", lambda *given: (found.append(given[1].name), stock(*given))
    )
    return found


def test_compiled_once_for_all(tmp_path, counted):
    cache = KernelCache(tmp_path / "cache")
    source, header = tmp_path / "a.c", tmp_path / "a.h"
    source.write_text('#include "a.h"\nint f(void) { return N; }\n')
    header.write_text("enum { N = 1 };\n")
    first, again = (
        compile_c(source, tmp_path / name, HOST, cache, (header,)).read_bytes()
        for name in ("first.o", "again.o")
    )
    assert first == again and counted == ["a.c"]
    header.write_text("enum { N = 2 };\n")
    assert compile_c(source, tmp_path / "b.o", HOST, cache, (header,)).read_bytes() != first
    compile_c(source, tmp_path / "c.o", HOST, None, (header,))
    assert counted == ["a.c"] * 3


def test_another_compiler_is_another_object(tmp_path, counted):
    cache = KernelCache(tmp_path / "cache")
    source = tmp_path / "a.c"
    source.write_text("int f(void) { return 1; }\n")
    wrapper = tmp_path / "mycc"
    wrapper.write_text('#!/bin/sh\nexec cc "$@"\n')
    wrapper.chmod(0o755)
    tools = dataclasses.replace(HOST, command=(str(wrapper),))
    for made in (HOST, tools, tools):
        compile_c(source, tmp_path / "a.o", made, cache)
    assert counted == ["a.c"] * 2
    wrapper.write_text('#!/bin/sh\n# newer\nexec cc "$@"\n')
    compile_c(source, tmp_path / "a.o", tools, cache)
    assert counted == ["a.c"] * 3
