"""The order of a compilation: one list of named stages, each with the reason for its place.

A stage changes the Work it is handed and says in a few words what came out. Every stage can
be dumped (`--dump DIR`) and is timed; the optional ones can be switched off by name
(`--disable NAME`, `--only NAME`).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from tilewright.compiler import build, bytecode
from tilewright.compiler.faults import (
    Fault,
    after_stage,
    check_faults,
    faulty_fusion,
    faulty_record,
    faulty_rule,
)
from tilewright.compiler.importer import shapes
from tilewright.compiler.importer.convert.to_relax import to_relax
from tilewright.compiler.importer.load import load
from tilewright.compiler.importer.model import OnnxModel, check_dtype
from tilewright.compiler.importer.normalise import normalise
from tilewright.compiler.kernel_cache import KernelCache
from tilewright.compiler.kernels import Objects
from tilewright.compiler.lower import lower_groups
from tilewright.compiler.manifest import interface
from tilewright.compiler.standalone.build import tables_of
from tilewright.compiler.standalone.names import PREFIX
from tilewright.compiler.standalone.plan import Plan
from tilewright.compiler.steps import OPTIONAL_STAGES, PARTS, RULE_STEPS
from tilewright.compiler.weights import WeightTable, lift_weights
from tilewright.errors import UnsupportedModel
from tilewright.options import SPENDS_ERROR_BUDGET, CompileOptions
from tilewright.passes.attention import ATTENTION
from tilewright.passes.blame import blame_group, is_ours
from tilewright.passes.fold_affine import fold_affine
from tilewright.passes.fold_batch_norm import fold_batch_norm
from tilewright.passes.fold_constants import fold_constants
from tilewright.passes.fold_input_affine import fold_input_affine
from tilewright.passes.fusion import Fusion, FusionReport, fuse
from tilewright.passes.fusions import DEFAULT_FUSIONS
from tilewright.passes.graphs import graphs
from tilewright.passes.legalize import legalize
from tilewright.passes.merge_projections import merge_projections
from tilewright.passes.order_sizes import order_sizes
from tilewright.passes.part_reversed import part_reversed
from tilewright.passes.simplify import simplify
from tilewright.targets import Target
from tilewright.targets.rules.catalogue import RULES, Choice
from tilewright.targets.rules.fallback import schedule_all
from tilewright.targets.rules.register_tile import lanes_of
from tilewright.targets.rules.rule import Rule
from tilewright.targets.toolchain import Toolchain, toolchain_for


@dataclass(frozen=True)
class Tuning:
    """How many distinct groups have kernels of a rule, and which have them by a tuning record.

    `unfit` are those whose record is not one for the rules of today, with the reason.
    """

    groups: int
    tuned: list[str]
    unfit: Mapping[str, str]


@dataclass
class Work:
    """One compilation on its way through the stages."""

    path: Path
    target: Target
    options: CompileOptions
    shapes: Mapping[str, Sequence[int]]
    folder: Path
    fusion_list: tuple[Fusion, ...] = DEFAULT_FUSIONS
    cache: KernelCache | None = None
    # Rules and knobs from tuning, by the key of a spec.
    choices: Mapping[str, Choice] = field(default_factory=dict)
    # Planted by a test.
    faults: tuple[Fault, ...] = ()
    model: OnnxModel | None = None
    bounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    nodes: int = 0
    interface: dict[str, Any] = field(default_factory=dict)
    mod: tvm.IRModule | None = None
    # ONNX nodes that each variable of `mod` does the work of, both by name.
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    fusions: FusionReport = field(default_factory=FusionReport)
    refusals: dict[str, dict[str, str]] = field(default_factory=dict)
    tuning: Tuning = field(default_factory=lambda: Tuning(0, [], {}))
    weights: WeightTable | None = None
    kernels: list[str] = field(default_factory=list)
    # What calls the kernels: tables that C walks, or bytecode for TVM's VM.
    executable: Any = None
    tables: Plan | None = None
    objects: Objects | None = None
    # Objects of what is no kernel.
    parts: tuple[Path, ...] = ()
    library: Path | None = None
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def functions(self) -> str | None:
        """What the C functions of the library start with; None of one that TVM's VM runs."""
        return None if self.tables is None else self.options.standalone or PREFIX

    @property
    def tools(self) -> Toolchain:
        """What compiles C for the target, and links."""
        return toolchain_for(self.target, self.options.glibc, self.options.cc)

    @property
    def tvm_target(self) -> tvm.target.Target:
        """The target as TVM takes it."""
        return tvm.target.Target(self.target.tvm_config())


@dataclass(frozen=True)
class Stage:
    """One named step. `level` is the lowest -O that runs it; `optional` lets users skip it."""

    name: str
    run: Callable[[Work], str]
    why: str
    level: int = 0
    optional: bool = False


def _load(work: Work) -> str:
    work.model = load(work.path)
    work.bounds = shapes.apply(work.model, work.shapes, work.options.dims)
    work.nodes = len(work.model.graph.node)
    return f"{work.nodes} nodes, opset {work.model.opset()}"


def _normalise(work: Work) -> str:
    done = normalise(work.model)
    size = sum(array.nbytes for array in work.model.weights.values())
    return f"{done.nodes_before} -> {done.nodes_after} nodes, {size / 1e6:.1f} MB of weights"


def _import(work: Work) -> str:
    imported = to_relax(work.model, lanes_of(work.target))
    work.mod = relax.transform.DeadCodeElimination()(imported.mod)
    work.origins = imported.origins
    work.interface = interface(work)
    # Memory is planned for these sizes: a bound nobody gave would reserve all there is.
    upper = {n: size[1] for n, size in work.options.dims.items() if n in work.bounds}
    if upper:
        work.mod["main"] = work.mod["main"].with_attr("tir_var_upper_bound", upper)
    # Hold the weights once: from here on they are constants of the module.
    work.model.weights = {}
    out = [f"; no {branch} of {node}" for node, branch in imported.left_out.items()]
    return f"{_count_calls(work.mod)} operators{''.join(out)}"


def _passes(*passes: tvm.transform.Pass) -> Callable[[Work], str]:
    def run(work: Work) -> str:
        before = _count_calls(work.mod)
        with work.tvm_target:
            work.mod = tvm.transform.Sequential(passes)(work.mod)
        return f"{before} -> {_count_calls(work.mod)} calls"

    return run


def _merge_projections(work: Work) -> str:
    attention = next((f for f in _chosen_fusions(work) if f.name == ATTENTION.name), None)
    if attention is None:
        return "nothing: attention is off"
    work.mod, merged = merge_projections(work.mod, attention)
    for joint, parts in merged.items():
        work.origins[joint] = tuple(o for part in parts for o in work.origins.get(part, ()))
    # What bears the name of a part from here on is a slice, which no node stands for.
    for part in {part for parts in merged.values() for part in parts}:
        work.origins.pop(part, None)
    return f"{sum(map(len, merged.values()))} -> {len(merged)} calls"


def _fuse(work: Work) -> str:
    work.mod, work.fusions = fuse(work.mod, _chosen_fusions(work), work.origins)
    counts = Counter(group.fusion for group in work.fusions.groups)
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"


def _chosen_fusions(work: Work) -> list[Fusion]:
    names = tuple(fusion.name for fusion in work.fusion_list)
    chosen = (f for f in work.fusion_list if _is_named(f.name, work.options, names))
    return [faulty_fusion(fusion, work.faults) for fusion in chosen]


def _chosen_rules(work: Work) -> list[Rule]:
    named = {rule: step for step, rule in RULE_STEPS.items()}
    chosen = (r for r in RULES if _is_named(named[r.name], work.options, tuple(RULE_STEPS)))
    return [faulty_rule(rule, work.faults) for rule in chosen]


def _lowering(*passes: tvm.transform.Pass) -> Callable[[Work], str]:
    """`passes`; where they fail over a group of a user's fusion, the error names it."""
    run_passes = _passes(*passes)

    def run(work: Work) -> str:
        try:
            return run_passes(work)
        except Exception:
            users = {fusion.name for fusion in work.fusion_list if not is_ours(fusion)}
            groups = [group for group in work.fusions.groups if group.fusion in users]
            with work.tvm_target:
                blame_group(work.mod, passes, groups, work.origins)
            raise

    return run


def _lower(work: Work) -> str:
    before = work.mod["main"].body.body
    exact = work.options.opt_level < SPENDS_ERROR_BUDGET
    work.mod, report = lower_groups(
        work.mod,
        work.fusions.groups,
        work.target,
        exact,
        work.choices,
        _chosen_rules(work),
        lambda lowered, rule: faulty_record(lowered, rule, work.faults),
    )
    work.refusals = report.refusals
    work.tuning = Tuning(len(report.lowered), sorted(report.tuned), report.unfit)
    after = work.mod["main"].body.body
    if isinstance(before, relax.Var) and before.name in work.origins:
        # The result has been bound anew.
        work.origins[after.name] = work.origins[before.name]
    done = ", ".join(f"{count} {rule}" for rule, count in report.counts.items()) or "nothing"
    return f"{done}; {len(report.tuned)} groups tuned" if work.choices else done


def _schedule(work: Work) -> str:
    work.mod, counts = schedule_all(work.mod, work.target)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"


def _weights(work: Work) -> str:
    work.mod, work.weights = lift_weights(work.mod)
    for array in work.weights.arrays:
        check_dtype(str(array.dtype), f"a weight of shape {list(array.shape)}")
    work.kernels = build.called_kernels(work.mod)
    return f"{len(work.weights.arrays)} tensors, {work.weights.size_bytes / 1e6:.1f} MB"


def _plan(work: Work) -> str:
    note = _passes(*MEMORY_PLAN)(work)
    work.tables, reason = _tables(work)
    if work.tables is not None:
        owned = [True] * len(work.interface["outputs"])
    else:
        _passes(*_VM_CALLS)(work)
        owned = bytecode.owned_results(work.mod["main"])
        note = f"TVM's VM runs it: {reason}"
    for row, own in zip(work.interface["outputs"], owned, strict=True):
        row["owned"] = own
    return note


def _tables(work: Work) -> tuple[Plan | None, str]:
    """The tables, or None and why only TVM's VM can run the model.

    Raises UnsupportedModel where that is so and a library without TVM is needed.
    """
    needed = work.options.standalone or not work.target.machine.tvm_runtime
    if not needed and not _is_named("tables", work.options, PARTS):
        return None, "tables are switched off"
    try:
        return tables_of(work), ""
    except UnsupportedModel as error:
        if needed:
            raise
        return None, ", ".join(part for part in (error.what, error.where) if part)


@tvm.transform.module_pass(opt_level=0)
def _reshapes_as_views(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Kernels that only reshape become views; none where TVM fails to see which ones do."""
    try:
        return relax.transform.RewriteDataflowReshape()(mod)
    except tvm.error.InternalError:
        # Of sizes such as n + 4 (docs/known-issues.md). A copy is as right as a view.
        return mod


_CLEAN_UP = (
    relax.transform.CanonicalizeBindings(),
    relax.transform.EliminateCommonSubexpr(),
    relax.transform.DeadCodeElimination(),
)
_TVM_FUSION = (
    relax.transform.AnnotateTIROpPattern(),
    part_reversed,
    relax.transform.FuseOps(),
    relax.transform.FuseTIR(),
    order_sizes,
)
# Up to where the module says which blocks of memory a run shares.
MEMORY_PLAN = (
    _reshapes_as_views,
    relax.transform.ToNonDataflow(),
    relax.transform.RemovePurityChecking(),
    relax.transform.CallTIRRewrite(),
    relax.transform.StaticPlanBlockMemory(),
)
_VM_CALLS = (
    relax.transform.LowerAllocTensor(),
    relax.transform.KillAfterLastUse(),
    relax.transform.LowerRuntimeBuiltin(),
    relax.transform.ComputePrimValue(),
    relax.transform.VMShapeLower(),
    relax.transform.AttachGlobalSymbol(),
)

STAGES: tuple[Stage, ...] = (
    Stage("load", _load, "checks the file and fixes the shapes the user gave"),
    Stage("normalise", _normalise, "converters want constants where exporters wrote arithmetic"),
    Stage("import", _import, "ONNX to Relax; needs constant shapes"),
    Stage(
        "fold_constants",
        _passes(fold_constants),
        "before patterns: they expect weights and biases to be constants",
        level=1,
        optional=True,
    ),
    Stage(
        "simplify",
        _passes(simplify),
        "after fold_constants, so that only transposes of values are left; before any pattern",
        level=1,
        optional=True,
    ),
    Stage(
        "fold_batch_norm",
        _passes(fold_batch_norm),
        "after fold_constants, which turns reshaped biases into constants",
        level=1,
        optional=True,
    ),
    Stage(
        "fold_affine",
        _passes(fold_input_affine, fold_affine),
        "after fold_batch_norm, whose leftovers are multiplications and additions",
        level=1,
        optional=True,
    ),
    Stage(
        "clean_up",
        _passes(*_CLEAN_UP),
        "after folding, which leaves duplicates and dead bindings",
        level=1,
        optional=True,
    ),
    Stage(
        "merge_projections",
        _merge_projections,
        "before fuse: attention takes the slices in, linear the joint product",
        level=2,
        optional=True,
    ),
    Stage(
        "fuse",
        _fuse,
        "before legalize: patterns are written in graph operators",
        level=2,
    ),
    Stage(
        "lower",
        _lower,
        "after fuse, whose specs the rules read; before legalize, which takes what is left",
        level=2,
        optional=True,
    ),
    Stage("legalize", _lowering(legalize()), "graph operators to kernels"),
    Stage(
        "fuse_ops",
        _lowering(*_TVM_FUSION),
        "on kernels: TVM's fusion reads their access patterns",
        level=2,
        optional=True,
    ),
    Stage(
        "schedule",
        _schedule,
        "after fusion: a fused kernel gets one loop nest",
        optional=True,
    ),
    Stage("weights", _weights, "after scheduling, which may still move constants"),
    Stage("plan", _plan, "memory and the order of calls; weights are parameters by now"),
    Stage("codegen", build.generate_code, "LLVM, for the kernels that the cache has not"),
    Stage("link", build.link, "one library with kernels, weights and manifest"),
)


def chosen_stages(options: CompileOptions) -> list[Stage]:
    """The stages that `options` ask for, in order."""
    return [stage for stage in STAGES if _is_chosen(stage, options)]


def _is_chosen(stage: Stage, options: CompileOptions) -> bool:
    if options.opt_level < stage.level:
        return False
    return not stage.optional or _is_named(stage.name, options, OPTIONAL_STAGES)


def _is_named(name: str, options: CompileOptions, family: tuple[str, ...]) -> bool:
    """Whether --disable and --only leave the stage, fusion or rule `name` in.

    --only with names of one kind limits that kind and leaves the others.
    """
    limit = [chosen for chosen in options.only if chosen in family]
    return name not in options.disable and (not limit or name in limit)


def run(
    work: Work,
    on_start: Callable[[Stage], None],
    on_done: Callable[[Stage, float, str], None],
    dump: Path | None = None,
) -> None:
    """Run the chosen stages on `work`; with `dump`, write what each leaves behind.

    Raises OptionError when a fault is planted in what is not there.
    """
    stages = [stage.name for stage in STAGES]
    fusions = [fusion.name for fusion in work.fusion_list]
    rules = [rule.name for rule in RULES]
    check_faults(work.faults, {"stage": stages, "fusion": fusions, "rule": rules, "record": rules})
    for number, stage in enumerate(chosen_stages(work.options), start=1):
        on_start(stage)
        start = time.perf_counter()
        note = stage.run(work)
        after_stage(work, stage.name)
        seconds = time.perf_counter() - start
        if dump is not None:
            text = build.shown_ir(work, stage.name)
            (dump / f"{number:02d}-{stage.name}.txt").write_text(text)
        on_done(stage, seconds, note)


def _count_calls(mod: tvm.IRModule) -> int:
    blocks = [block for graph in graphs(mod) for block in mod[graph].body.blocks]
    return sum(isinstance(b.value, relax.Call) for block in blocks for b in block.bindings)
