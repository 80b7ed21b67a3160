"""Make the development models: `python -m tools.zoo list | fetch | export [NAME ...]`.

Exit status: 0 good, 1 a model failed its check, 2 could not run.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tools.zoo.catalog import MODELS
from tools.zoo.errors import ZooError
from tools.zoo.export import export
from tools.zoo.fetch import fetch
from tools.zoo.places import REPOSITORY, Zoo


def _print_catalog() -> None:
    for model in MODELS:
        print(
            f"{model.name:36} {model.weights:8} {model.licence:11} {model.gmacs:7g} GMACs  "
            f"{model.source:29} {model.note}"
        )


def _parser() -> argparse.ArgumentParser:
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument(
        "--to",
        metavar="DIR",
        type=Path,
        default=Path(os.environ.get("TILEWRIGHT_ZOO") or REPOSITORY / "zoo"),
        help="the zoo's folder (default: $TILEWRIGHT_ZOO, else zoo/ in the repository)",
    )
    parser = argparse.ArgumentParser(prog="python -m tools.zoo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="print the catalog")
    commands.add_parser("fetch", parents=[folder], help="download what holds trained weights")
    exporting = commands.add_parser("export", parents=[folder], help="make the other models")
    exporting.add_argument("names", metavar="NAME", nargs="*", help="only these (default: all)")
    return parser


def main() -> int:
    """Run one subcommand and return the exit status."""
    arguments = _parser().parse_args()
    try:
        if arguments.command == "list":
            _print_catalog()
            return 0
        zoo = Zoo(arguments.to.resolve())
        if arguments.command == "fetch":
            fetch(zoo)
            return 0
        return export(arguments.names, zoo)
    except ZooError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
