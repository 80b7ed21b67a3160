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
RULES = (
    "squeeze_excitation",
    "conv_chain",
    "conv_concat",
    "winograd",
    "conv",
    "conv_open",
    "conv_transposed",
    "conv_volume",
    "linear",
    "matmul",
    "mlp",
    "attention",
    "norm",
    "softmax",
)
# A rule by the name that --disable takes: that of a fusion is taken.
RULE_STEPS = {f"{rule}_rule" if rule in FUSIONS else rule: rule for rule in RULES}
OPTIONAL_STAGES = (*CLEAN_UPS, "merge_projections", "lower", "fuse_ops", "schedule")
# What is optional within a stage.
PARTS = ("tables",)
OPTIONAL_STEPS = (
    *CLEAN_UPS,
    "merge_projections",
    *FUSIONS,
    "lower",
    *RULE_STEPS,
    "fuse_ops",
    "schedule",
    *PARTS,
)
