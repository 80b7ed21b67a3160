"""The child process that makes one model: `python -m tools.zoo.export_one NAME FOLDER`.

Prints one line about the file. Exit status: 0 made, 1 made but wrong, 2 not made.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

import torch

from tools.zoo import catalog
from tools.zoo.errors import ZooError
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
        return error.exit_code
    except Exception:  # Python's own exit status would be 1, which means "made but wrong"
        traceback.print_exc()
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
