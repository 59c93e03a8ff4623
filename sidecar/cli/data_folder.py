"""Where the running sidecar keeps its own files, for commands that are told of a store only.

Knows: --data-dir, the folder of a configuration, and that a file's store has them beside it.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from sidecar.cli.chosen_store import WrongUsage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sidecar.ledger.witness import Witness


def add_data_folder(parser: argparse.ArgumentParser) -> None:
    """How to name the folder."""
    parser.add_argument(
        "--data-dir",
        metavar="FOLDER",
        help="where the sidecar keeps its own files (default: the configuration's; beside a file)",
    )


def data_folder(args: argparse.Namespace, url: str) -> Path | None:
    """The folder that was named, or follows from the configuration or the store's URL; None for a
    server without either. Raises WrongUsage with a configuration's problems."""
    import os
    from pathlib import Path

    from sidecar.config.load import load_config
    from sidecar.config.store_url import SQLITE

    if args.data_dir:
        return Path(args.data_dir).absolute()
    if args.store:
        if not url.startswith(SQLITE):
            return None
        return Path(url.removeprefix(SQLITE)).absolute().parent
    path = Path(args.config or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    loaded = load_config(path, os.environ, ())
    if loaded.local is None:
        raise WrongUsage("\n".join(str(problem) for problem in loaded.problems))
    return loaded.local.data_dir


def witness_of(args: argparse.Namespace, url: str, now_us: Callable[[], int]) -> Witness | None:
    """The file of heads of a store; None where its folder cannot be known."""
    from sidecar.ledger.witness import Witness

    folder = data_folder(args, url)
    return None if folder is None else Witness(folder, url, now_us)
