"""Malformed models: valid ones, damaged on purpose, and what the compiler says about each.

`models.py` has the valid models, `mutations.py` the list of what is done to them, `run.py` compiles
each mutant in a process that may be killed, `python -m tools.mutate` counts how they end.
"""
