"""Names of the optional steps, readable without importing TVM.

`tilewright.compiler.pipeline` holds the stages themselves; tests/test_house.py keeps the two
the same.
"""

CLEAN_UPS = ("fold_constants", "fold_batch_norm", "fold_affine", "clean_up")
FUSIONS = (
    "attention",
    "squeeze_excitation",
    "mlp",
    "rotary",
    "embedding",
    "conv_block",
    "pool_linear",
    "norm",
    "linear",
    "activation",
)
OPTIONAL_STAGES = (*CLEAN_UPS, "lower", "fuse_ops")
OPTIONAL_STEPS = (*CLEAN_UPS, *FUSIONS, "lower", "fuse_ops")
