"""Two models, or two runs, side by side: which flags are for which, and earlier reports.

--dim and --shape of a comparison go to each model that has the dimension or the input.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tilewright.errors import OptionError
from tilewright.options import CompileOptions

Settings = dict[Path, tuple[Mapping[str, Sequence[int]], CompileOptions]]


def settings_of(
    subjects: Sequence[Path],
    target: str,
    shapes: Mapping[str, Sequence[int]],
    options: CompileOptions,
) -> Settings:
    """Shapes and options for each model among `subjects`: files that end in .json are none.

    Raises OptionError for a --shape or --dim that no model has.
    """
    models = [path for path in subjects if path.suffix != ".json"]
    if not models and (target != "native" or shapes or options != CompileOptions()):
        raise OptionError(
            "a report is finished already",
            where=", ".join(str(path) for path in subjects),
            expected="no -t, -O, --shape, --dim, --disable or --only",
            hint="give the .onnx file to analyse it with them",
        )
    # One model alone says itself what does not fit.
    if len(models) < 2 or not (shapes or options.dims):
        return dict.fromkeys(models, (shapes, options))
    names = {path: _names(path) for path in models}
    for flag, given in (("shapes", shapes), ("dims", options.dims)):
        known = [name for found in names.values() for name in found[flag]]
        for name in given:
            if name not in known:
                kind = {"shapes": "--shape names an input", "dims": "--dim names a dimension"}[flag]
                raise OptionError(
                    f"{kind} that neither model has: {name!r}",
                    expected=f"one of: {', '.join(dict.fromkeys(known))}" if known else None,
                )
    return {
        path: (
            {name: shape for name, shape in shapes.items() if name in found["shapes"]},
            dataclasses.replace(
                options, dims={k: v for k, v in options.dims.items() if k in found["dims"]}
            ),
        )
        for path, found in names.items()
    }


def _names(path: Path) -> dict[str, list[str]]:
    from tilewright.compiler import child

    job = {"path": str(path)}
    return child.call("tilewright.analysis.inspect_job:names_job", job, doing="inspecting")


def read_report(path: Path) -> dict[str, Any] | None:
    """The fusion report in a file that `inspect --json` wrote, or a dump of `analyze`'s answer.

    None where the file says that its model has none. Raises OptionError for any other file.
    """
    try:
        found = json.loads(path.read_text())
        fusion = found if "coverage" in found else found["fusion"]
        if fusion is not None:
            fusion["coverage"]["operators"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no fusion report"
        raise OptionError(
            f"cannot read the report: {reason}",
            where=str(path),
            expected="a file that `tilewright inspect MODEL.onnx --json FILE` wrote",
        ) from error
    return fusion
