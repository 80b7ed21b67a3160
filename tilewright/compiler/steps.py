"""Names of the optional steps, readable without importing TVM.

`tilewright.compiler.pipeline` holds the stages themselves; tests/test_house.py keeps the two
the same.
"""

OPTIONAL_STEPS = (
    "fold_constants",
    "fold_batch_norm",
    "fold_affine",
    "clean_up",
    "merge_projections",
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
    "fuse_ops",
)
