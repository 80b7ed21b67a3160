"""Whose fault it is: an error inside a fusion that a user wrote names it, its line and the node.

Before   TypeError: unsupported operand type(s) for /: 'int' and 'NoneType'
After    fusion 'soft_cap' failed: TypeError: unsupported operand type(s) for /: ...
           where: at t, node squash (Tanh); soft_cap.py, line 31: return SoftCapSpec(1 / cap)

What goes wrong inside our own fusions is our fault, and stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import tvm
from tvm import relax

from tilewright.errors import FusionError

if TYPE_CHECKING:
    from tilewright.passes.fusion import Decline, Fusion, Group, Spec


class WrongAnswer(Exception):
    """What `accept` returned cannot be worked with; the second argument says what to do."""


def checked(answer: Any, decline: type[Decline]) -> Spec | Decline:
    """`answer` of an `accept`, if it is a Decline or a Spec that can be stored.

    Raises WrongAnswer.
    """
    if isinstance(answer, decline):
        return answer
    if isinstance(answer, type) or not callable(getattr(answer, "to_dict", None)):
        raise WrongAnswer(
            f"accept answered {answer!r:.200}, which is neither a Spec nor a Decline",
            "does each way through accept end in `return`?" if answer is None else None,
        )
    try:
        json.dumps(answer.to_dict())
    except Exception as error:
        raise WrongAnswer(
            f"{_bad_field(answer)} cannot be stored: {error}",
            "`.item()` makes a Python number of a numpy one, `str` a name of a dtype",
        ) from error
    return answer


def _bad_field(spec: Spec) -> str:
    """The first field of `spec` that is no JSON value, or the class where none can be told."""
    for name, value in getattr(spec, "__dict__", {}).items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            return f"{type(spec).__name__}.{name} = {value!r:.100}"
    return type(spec).__name__


@contextlib.contextmanager
def blaming(fusion: Fusion, value: str, origins: Mapping[str, str]) -> Iterator[None]:
    """Errors of the block, in which `fusion` is tried at `value`, become FusionError."""
    try:
        yield
    except Exception as error:
        if is_ours(fusion):
            raise
        place = f"at {value}" + (f", node {origins[value]}" if value in origins else "")
        if isinstance(error, WrongAnswer):
            what, hint = error.args
            raise FusionError(
                f"fusion {fusion.name!r}: {what}",
                where=f"{place}; {_defined(fusion.accept)}",
                expected="a Spec: a frozen dataclass over tilewright.fusions.Spec whose fields are "
                "JSON values; or a Decline with the reason",
                hint=hint,
            ) from error
        said = "".join(traceback.format_exception_only(error)).strip()
        raise FusionError(
            f"fusion {fusion.name!r} failed: {said[:500]}",
            where=f"{place}; {_line(error, fusion)}",
            hint="answer a match that it cannot judge with a Decline",
        ) from error


def is_ours(fusion: Fusion) -> bool:
    """Whether `fusion` is one of Tilewright's own."""
    return str(getattr(fusion.accept, "__module__", "")).startswith("tilewright.")


def blame_group(
    mod: tvm.IRModule,
    passes: Sequence[tvm.transform.Pass],
    groups: Sequence[Group],
    origins: Mapping[str, tuple[str, ...]],
) -> None:
    """Raise FusionError for the first of `groups` that `passes` cannot lower, if there is one."""
    for group in groups:
        alone = _alone(mod, group.kernel)
        try:
            tvm.transform.Sequential(passes)(alone)
        except Exception as error:
            nodes = group.nodes(origins) or group.members
            said = str(error).strip().splitlines() or [type(error).__name__]
            raise FusionError(
                f"fusion {group.fusion!r} covers what cannot be lowered as one group",
                where=f"group {group.function}: {', '.join(nodes)}; {said[-1]:.300}",
                expected="operators that become loops over tensors",
                hint="leave the operator out of the pattern: Any(...) in its place",
            ) from error


def _alone(mod: tvm.IRModule, kernel: str) -> tvm.IRModule:
    """A module whose `main` does nothing but call the group `kernel`."""
    var = mod.get_global_var(kernel)
    group = mod[var]
    params = [relax.Var(param.name, param.ty) for param in group.params]
    result = relax.Var("result", group.ret_ty)
    block = relax.DataflowBlock([relax.VarBinding(result, relax.Call(var, params))])
    main = relax.Function(params, relax.SeqExpr([block], result), group.ret_ty, is_pure=True)
    functions = {v: f for v, f in mod.functions_items() if not isinstance(f, relax.Function)}
    alone = tvm.IRModule({**functions, var: group})
    alone["main"] = main.with_attr("global_symbol", "main")
    return relax.transform.Normalize()(alone)


def _line(error: Exception, fusion: Fusion) -> str:
    """The last line of the user's own file that led to `error`."""
    code = getattr(fusion.accept, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code and frame.filename == code.co_filename]
    if not own:
        return _defined(fusion.accept)
    shown = f": {own[-1].line}" if own[-1].line else ""
    return f"{own[-1].filename}, line {own[-1].lineno}, in {own[-1].name}{shown}"


def _defined(accept: Callable) -> str:
    code = getattr(accept, "__code__", None)
    return f"{code.co_filename}, line {code.co_firstlineno}" if code else f"in {accept!r}"
