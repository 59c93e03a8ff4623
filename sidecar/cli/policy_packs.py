"""`aegis-sidecar policy packs list|copy`: the policies that come with the program."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from sidecar.counted import counted

if TYPE_CHECKING:
    from pathlib import Path

NAME = "packs"
HELP = "list the policies that come with the program; copy some to edit them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """list and copy."""
    what = parser.add_subparsers(dest="what", required=True, metavar="ACTION")
    listing = what.add_parser("list", help="every pack, in a line each")
    listing.add_argument("--json", action="store_true", help="as one JSON object")
    copy = what.add_parser("copy", help="a pack's files, tests included, into your own folder")
    copy.add_argument("name", metavar="NAME", help="as in `packs list`")
    copy.add_argument(
        "--to", default="policies", metavar="FOLDER", help="a folder NAME is made in it (policies)"
    )


def run(args: argparse.Namespace) -> int:
    """0 done, 1 something is there already, 2 no such pack or a folder that cannot be written."""
    return _list(args.json) if args.what == "list" else _copy(args.name, args.to)


def _list(as_json: bool) -> int:
    from sidecar.policy_reading import pack_folders

    folders = pack_folders()
    if as_json:
        said = [{"name": name, "description": description_of(one)} for name, one in folders.items()]
        print(json.dumps({"packs": said}, ensure_ascii=False))
        return 0
    width = max(len(name) for name in folders)
    for name, folder in folders.items():
        print(f"{name.ljust(width)}  {description_of(folder)}")
    return 0


def description_of(folder: Path) -> str:
    """What the policies of a pack say of themselves, and which detections it has, in one line."""
    from sidecar.yaml_reader import read_documents

    found, detections = [], []
    for path in sorted(folder.rglob("*.yaml")):
        documents, _ = read_documents(path.name, path.read_bytes())
        node = documents[0] if documents else None
        if node is not None and node.is_mapping and next(iter(node.value), "") == "policy":
            said = node.value.get("description")
            found.append(said.plain() if said is not None else f"the policy {path.stem}")
        elif node is not None and node.is_mapping and next(iter(node.value), "") == "detection":
            detections.append(str(node.value["detection"].plain()))
    if detections:
        found.append(f"detections: {', '.join(detections)}")
    return "; ".join(found)


def _copy(name: str, to: str) -> int:
    from pathlib import Path

    from sidecar.policy.fields import did_you_mean
    from sidecar.policy_reading import pack_folders

    folders = pack_folders()
    if name not in folders:
        hint = did_you_mean(name, folders) or f"packs: {', '.join(folders)}"
        print(f"there is no pack {name!a}; {hint}", file=sys.stderr)
        return 2
    source, target = folders[name], Path(to) / name
    files = [path for path in sorted(source.rglob("*")) if path.suffix in (".yaml", ".yml")]
    taken = [path for path in files if (target / path.relative_to(source)).exists()]
    if taken:
        there = target / taken[0].relative_to(source)
        print(f"{there} is there already: nothing was copied", file=sys.stderr)
        return 1
    try:
        for path in files:
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            with copied.open("xb") as file:
                file.write(path.read_bytes())
    except OSError as error:
        print(f"{target} cannot be written: {error.strerror or error}", file=sys.stderr)
        return 2
    print(f"{counted(len(files), 'file')} of {name} copied to {target}")
    print(f"    they are yours now: if `policies:` names pack:{name} beside {to}, take it out")
    return 0
