"""Names of the optional steps, readable without importing TVM.

`tilewright.compiler.pipeline` holds the stages themselves; tests/test_house.py keeps the two
the same.
"""

CLEAN_UPS = ("fold_constants", "simplify", "fold_batch_norm", "fold_affine", "clean_up")
FUSIONS = (
    "attention",
    "softmax",
    "squeeze_excitation",
    "mlp",
    "rotary",
    "embedding",
    "conv_chain",
    "conv_concat",
    "conv_block",
    "pool_linear",
    "norm",
    "linear",
    "activation",
)
OPTIONAL_STAGES = (*CLEAN_UPS, "merge_projections", "lower", "fuse_ops")
OPTIONAL_STEPS = (*CLEAN_UPS, "merge_projections", *FUSIONS, "lower", "fuse_ops")
