"""Names of the optional steps, readable without importing TVM.

`tilewright.compiler.pipeline` holds the stages themselves; tests/test_house.py keeps the two
the same.
"""

OPTIONAL_STEPS = ("fold_constants", "fold_batch_norm", "clean_up", "fuse_ops")
