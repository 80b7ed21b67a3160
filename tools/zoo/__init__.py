"""The development models: real graphs for the benchmarks, made by `python -m tools.zoo`.

`catalog` and `places` need only the standard library, so a benchmark can read them; everything
that imports torch runs in the child process that exports one model.
"""
