"""`aegis-sidecar policy check PATH…`: loads catalogues and policies as `serve` would."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sidecar.policy_reading import Reading
    from sidecar.problems import Position, Problem
    from sidecar.yaml_reader import Node

NAME = "policy"
HELP = "check policies and catalogues; print every problem with its place"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """check."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="exit 0: loads, 1: problems found, 2: unreadable")
    check.add_argument("paths", nargs="*", metavar="PATH", help="files, folders, pack:NAME")
    check.add_argument(
        "--config",
        metavar="FILE",
        help="take upstreams, `default` and (without PATH) `policies` from this sidecar.yaml; "
        "without it the catalogues say which upstreams there are",
    )
    check.add_argument("--strict", action="store_true", help="exit 1 on warnings too")


def run(args: argparse.Namespace) -> int:
    """0 loads, 1 problems, 2 nothing to check or unreadable configuration."""
    from pathlib import Path

    from sidecar.policy.load import load_policies
    from sidecar.policy_reading import take_reading

    root, base = None, Path.cwd()
    problems: list[Problem] = []
    places: dict[str, Position] = {}
    if args.config:
        root, problems = _configuration(Path(args.config))
        if root is None:
            _show(problems)
            return 2
    entries = list(args.paths)
    if not entries and root is not None:
        base = Path(args.config).parent.absolute()
        places = _entries(root)
        entries = list(places)
    if not entries:
        _show(problems)
        print("name files, folders or pack:NAME, or --config", file=sys.stderr)
        return 2
    reading = take_reading(entries, base, places=places)
    loaded = load_policies(
        reading.sources,
        upstreams=_upstreams(root) if root is not None else _catalogued(reading),
        default="observe" if root is not None and _default(root) == "observe" else "deny",
        read_file=reading.read_file,
    )
    problems = list({*problems, *reading.problems, *loaded.problems})
    _show(problems)
    has_errors = any(args.strict or not problem.is_warning for problem in problems)
    if loaded.policy_set is None or has_errors:
        print(_count(problems), file=sys.stderr)
        return 1
    found = loaded.policy_set
    tools = len(found.catalogue.tools)
    print(
        f"{found.rule_count} rule{_s(found.rule_count)}, {tools} tool{_s(tools)}, "
        f"revision {found.revision}"
    )
    return 0


def problems_of(
    places: Mapping[str, Position], base: Path, upstreams: Mapping[str, str]
) -> list[Problem]:
    """All that is wrong with the policies of a configuration, in order. `places` are its entries
    and where they are written, `upstreams` the kinds by name."""
    from sidecar.policy.load import load_policies
    from sidecar.policy_reading import take_reading

    reading = take_reading(places, base, places=places)
    loaded = load_policies(
        reading.sources, upstreams=upstreams, default="deny", read_file=reading.read_file
    )
    return sorted({*reading.problems, *loaded.problems})


def _configuration(path: Path) -> tuple[Node | None, list[Problem]]:
    """What the file says, as far as it is YAML; its settings are checked by `config check`."""
    from sidecar.problems import Position, Problem
    from sidecar.yaml_reader import salvage_yaml

    try:
        root, problems = salvage_yaml(str(path), path.read_bytes())
    except OSError as error:
        return None, [Problem(Position(str(path)), f"cannot be read: {error.strerror}")]
    if root is not None and not root.is_mapping:
        message = f"this is not a sidecar.yaml: it holds {root.kind}"
        return None, [*problems, Problem(root.position, message)]
    return root, problems


def _entries(root: Node) -> dict[str, Position]:
    """The entries of `policies`, with their places."""
    node = root.value.get("policies")
    listed = [] if node is None else node.value if node.is_list else [node]
    return {one.value: one.position for one in listed if isinstance(one.value, str) and one.value}


def _default(root: Node) -> object:
    node = root.value.get("default")
    return node.plain() if node is not None else None


def _upstreams(root: Node) -> Mapping[str, str]:
    node = root.value.get("upstreams")
    found: dict[str, str] = {}
    for name, member in (node.value if node is not None and node.is_mapping else {}).items():
        kind = member.value.get("kind") if member.is_mapping else None
        found[name] = "mcp" if kind is not None and kind.value == "mcp" else "rest"
    return found


def _catalogued(reading: Reading) -> Mapping[str, str]:
    """An upstream is taken to be REST if its catalogue has a route; problems are told later."""
    from sidecar.policy.fields import Problems
    from sidecar.policy.load import read_files

    files = read_files(reading.sources, reading.read_file, Problems())
    return {one.upstream: "rest" if one.has_routes else "mcp" for one in files.catalogues}


def _show(problems: list[Problem]) -> None:
    for problem in sorted(set(problems)):
        print(problem, file=sys.stderr)


def _count(problems: list[Problem]) -> str:
    errors = sum(not problem.is_warning for problem in problems)
    warnings = len(problems) - errors
    return f"{errors} error{_s(errors)}, {warnings} warning{_s(warnings)}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"
