"""`aegis-sidecar policy schema [KIND]`: JSON Schema for editors, one for each kind of file."""

from __future__ import annotations

import argparse
import sys

NAME = "schema"
HELP = "print the JSON Schema of a kind of file, for editors"

KINDS = ("policy", "catalogue", "test", "detection", "sidecar")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which."""
    parser.add_argument(
        "kind", nargs="?", choices=KINDS, default="policy", help="policy unless named"
    )
    parser.add_argument(
        "--to", metavar="FOLDER", help="write all of them there, as KIND.schema.json"
    )


def run(args: argparse.Namespace) -> int:
    """0 printed or written, 2 a folder that cannot be written."""
    import os
    from pathlib import Path

    if args.to is None:
        sys.stdout.write(schema_text(args.kind))
        return 0
    folder = Path(args.to)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for kind in KINDS:
            (folder / f"{kind}.schema.json").write_text(schema_text(kind), encoding="utf-8")
    except OSError as error:
        print(f"{folder} cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    below = Path("policies")
    reached = os.path.relpath(folder / "policy.schema.json", below)
    print(
        f"{len(KINDS)} schemas in {folder}; name one in the first line of a file, by its path from"
    )
    print(f"the folder of that file, e.g. of a policy in {below}/:")
    print(f"    # yaml-language-server: $schema={reached}")
    return 0


def schema_text(kind: str) -> str:
    """The schema as it is kept."""
    import importlib.resources

    file = importlib.resources.files("sidecar.schemas") / f"{kind}.schema.json"
    return file.read_text(encoding="utf-8")
