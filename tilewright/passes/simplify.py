"""Remove what computes nothing, and transposes and reshapes that undo each other.

Before   y = permute_dims(relu(permute_dims(x, to NHWC)), to NCHW);   z = max_pool(y, 1x1)
After    y = relu(x);                                                 z = y

Gone are: a reshape, transpose, cast, slice, broadcast, squeeze or expand_dims to what its
operand is already, a concat of one, a pool of one element, dropout. Two transposes, or two
reshapes, in a row become one. Values times a transposed softmax, as attention of images is often
written, become the softmax times transposed values. A transpose goes back through elementwise
operators when that makes every transpose it meets disappear. Declines when something else reads
what is computed on the way: it would be computed twice.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import relax
from tvm.relax.expr_functor import PyExprMutator, mutator

from tilewright.passes.graphs import graphs
from tilewright.passes.relax_constants import array_of, constant, is_constant
from tilewright.passes.uses import readers_of

# What may stand between two transposes: the result has the shape of the broadcast operands.
ELEMENTWISE = tuple(
    f"relax.{name}"
    for name in (
        *("add", "subtract", "multiply", "divide", "power", "maximum", "minimum"),
        *("abs", "clip", "erf", "exp", "log", "negative", "sigmoid", "sqrt", "rsqrt", "tanh"),
        *("nn.relu", "nn.gelu", "nn.gelu_tanh", "nn.silu", "nn.leakyrelu"),
    )
)
POOLS = tuple(f"relax.nn.{kind}_pool{rank}d" for kind in ("max", "avg") for rank in (1, 2, 3))
_VIEWS = ("relax.reshape", "relax.expand_dims", "relax.squeeze")
# Gone when the result has the type of the first argument; slices and pools have more to say.
RETYPING = (*_VIEWS, "relax.astype", "relax.broadcast_to", "relax.strided_slice", *POOLS)
MAX_ROUNDS = 8
_TIDY = tvm.transform.Sequential(
    [relax.transform.CanonicalizeBindings(), relax.transform.DeadCodeElimination()]
)


@mutator
class _Simplifier(PyExprMutator):
    """Looks at the function as it was; the pass runs it until nothing changes."""

    def __init__(self, mod: tvm.IRModule, graph: str) -> None:
        super().__init__(mod)
        self._readers = readers_of(mod[graph])
        self._old = relax.analysis.get_var2val(mod[graph])
        self.changed = False

    def visit_tuple_getitem_(self, item: relax.TupleGetItem) -> relax.Expr:
        source = self._bound(item.tuple_value)
        if item.index == 0 and _name(source) == "relax.nn.dropout":
            return self._instead(source.args[0])
        return self.visit_expr_post_order(item)

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        name = _name(call)
        if self._changes_nothing(call, name):
            return self._instead(call.args[0])
        if name == "relax.concat":
            fields = self._bound(call.args[0])
            if isinstance(fields, relax.Tuple) and len(fields.fields) == 1:
                return self._instead(fields.fields[0])
        if name == "relax.permute_dims" and (moved := self._transposed(call)) is not None:
            return moved
        if name == "relax.matmul" and (turned := self._scores_first(call)) is not None:
            return turned
        if name in _VIEWS and _name(inner := self._bound(call.args[0])) in _VIEWS:
            if _same_type(call, inner.args[0]):
                return self._instead(inner.args[0])
            # A squeeze says more to patterns than a reshape does.
            if name == _name(inner) == "relax.reshape":
                self.changed = True
                return relax.op.reshape(self.visit_expr(inner.args[0]), call.args[1])
        return self.visit_expr_post_order(call)

    def _instead(self, expr: relax.Expr) -> relax.Expr:
        self.changed = True
        return self.visit_expr(expr)

    def _changes_nothing(self, call: relax.Call, name: str) -> bool:
        if name not in RETYPING or not _same_type(call, call.args[0]):
            return False
        if name == "relax.strided_slice":
            steps = call.args[4].fields if len(call.args) > 4 else []
            return all(getattr(step, "value", None) == 1 for step in steps)
        if name in POOLS:
            sizes, padding = call.attrs.pool_size, call.attrs.padding
            return all(int(size) == 1 for size in sizes) and not any(int(p) for p in padding)
        return True

    def _scores_first(self, call: relax.Call) -> relax.Expr | None:
        """The product of v and transpose(s), for a softmax s, as transpose(s @ transpose(v))."""
        second, ours = self._bound(call.args[1]), call.args[0].ty.ndim
        if _name(second) != "relax.permute_dims" or ours < 2:
            return None
        scores, axes = second.args[0], _axes(second)
        if _name(self._bound(scores)) != "relax.nn.softmax" or axes != _turned(len(axes)):
            return None
        self.changed = True
        v = relax.op.permute_dims(self.visit_expr(call.args[0]), _turned(ours))
        product = relax.op.matmul(self.visit_expr(scores), v)
        return relax.op.permute_dims(product, _turned(max(ours, len(axes))))

    def _transposed(self, call: relax.Call) -> relax.Expr | None:
        axes = _axes(call)
        if axes == sorted(axes):
            return self._instead(call.args[0])
        inner = self._bound(call.args[0])
        if _name(inner) == "relax.permute_dims" and _compose(inner, axes) != sorted(axes):
            self.changed = True
            return relax.op.permute_dims(self.visit_expr(inner.args[0]), _compose(inner, axes))
        region = self._region(call.args[0], axes)
        if region is None:
            return None
        self.changed = True
        return self._moved(call.args[0], axes, {})

    def _region(self, root: relax.Expr, axes: list[int]) -> set[relax.Var] | None:
        """The elementwise operators from transposes that `axes` undoes down to `root`.

        None when something else stands in between, or when what is not inside reads them.
        """
        region: set[relax.Var] = set()
        waiting = [root]
        while waiting:
            expr = waiting.pop()
            call = self._bound(expr)
            if is_constant(expr) or expr in region:
                continue
            if _name(call) == "relax.permute_dims" and _compose(call, axes) == sorted(axes):
                continue
            # A value of lower rank has its axes elsewhere; a constant is given the missing ones.
            if _name(call) not in ELEMENTWISE or expr.ty.ndim != len(axes):
                return None
            region.add(expr)
            waiting += [arg for arg in call.args if _is_tensor(arg)]
        inner = [self._readers[var] <= region for var in region if not var.same_as(root)]
        return region if all(inner) and len(self._readers[root]) == 1 else None

    def _moved(self, expr: relax.Expr, axes: list[int], done: dict) -> relax.Expr:
        """`expr` transposed by `axes`, of a region that `_region` found."""
        if is_constant(expr):
            values = array_of(expr)
            if values.ndim == 0:
                return expr
            wide = values.reshape([1] * (len(axes) - values.ndim) + list(values.shape))
            return constant(wide.transpose(axes))
        call = self._bound(expr)
        if _name(call) == "relax.permute_dims":
            return self.visit_expr(call.args[0])
        if expr not in done:
            args = [self._moved(arg, axes, done) if _is_tensor(arg) else arg for arg in call.args]
            moved = relax.Call(call.op, args, call.attrs, call.ty_args)
            done[expr] = self.builder_.emit(moved, expr.name)
        return done[expr]

    def _bound(self, expr: relax.Expr) -> relax.Expr:
        return self._old.get(expr, expr) if isinstance(expr, relax.Var) else expr


def _name(expr: relax.Expr) -> str:
    return getattr(getattr(expr, "op", None), "name", "")


def _is_tensor(expr: relax.Expr) -> bool:
    return isinstance(expr.ty, relax.TensorType)


def _same_type(a: relax.Expr, b: relax.Expr) -> bool:
    """Whether shape and dtype are known to be the same."""
    known = isinstance(getattr(b.ty, "shape", None), relax.ShapeExpr)
    return known and tvm_ffi.structural_equal(a.ty, b.ty)


def _axes(call: relax.Call) -> list[int]:
    """Where each axis of the result comes from."""
    rank = call.args[0].ty.ndim
    axes = call.attrs.axes
    return [int(a) % rank for a in axes] if axes is not None else list(range(rank))[::-1]


def _turned(rank: int) -> list[int]:
    """The last two axes exchanged."""
    return [*range(rank - 2), rank - 1, rank - 2]


def _compose(inner: relax.Call, axes: list[int]) -> list[int]:
    """The axes of `inner` and then a transpose by `axes`."""
    first = _axes(inner)
    return [first[axis] for axis in axes]


@tvm.transform.module_pass(opt_level=0, name="simplify")
def simplify(mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Simplify until nothing changes."""
    for graph in graphs(mod):
        mod = _simplified(mod, graph)
    return mod


def _simplified(mod: tvm.IRModule, graph: str) -> tvm.IRModule:
    for _ in range(MAX_ROUNDS):
        simplifier = _Simplifier(mod, graph)
        function = simplifier.visit_expr(mod[graph])
        if not simplifier.changed:
            return mod
        simplifier.builder_.update_func(mod.get_global_var(graph), function)
        mod = _TIDY(simplifier.builder_.get())
    return mod
