"""The child process that makes one model: `python -m tools.zoo.export_one NAME FOLDER`.

Prints one line about the file. Exit status: 0 made, MADE_BUT_WRONG, or anything else: not made.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch

from tools.zoo import catalog
from tools.zoo.errors import CheckFailed, ZooError
from tools.zoo.export import MADE_BUT_WRONG
from tools.zoo.places import Zoo
from tools.zoo.recipe import SEED
from tools.zoo.save import Saved, save


def export_one(name: str, zoo: Zoo) -> Saved:
    """Make one model from its recipe."""
    recipes = importlib.import_module(f"tools.zoo.{catalog.find(name).recipes}").RECIPES
    # More threads would add the BatchNorm statistics in another order: other weights.
    torch.set_num_threads(1)
    # After the import, in case a library draws on import; the recipe draws from here on.
    torch.manual_seed(SEED)
    return save(recipes[name](zoo), zoo.model(name))


def main() -> int:
    """Run `export_one` with the arguments of the process."""
    name, folder = sys.argv[1:]
    try:
        print(export_one(name, Zoo(Path(folder))))
    except ZooError as error:
        print(error, file=sys.stderr)
        return MADE_BUT_WRONG if isinstance(error, CheckFailed) else error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
