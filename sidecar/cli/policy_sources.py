"""Which policies a command is about: files, folders and packs, or those of a sidecar.yaml.

Knows: PATH and --config, what `serve` would make of them, how problems are printed.
Must not know: what is done with the set.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from sidecar.counted import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sidecar.model import Principal
    from sidecar.policy.case_runner import Route
    from sidecar.policy.index import PolicySet
    from sidecar.policy.load import LoadedPolicies
    from sidecar.policy_reading import Reading
    from sidecar.problems import Position, Problem
    from sidecar.soc.detection import Detections
    from sidecar.yaml_reader import Node


class NothingChosen(Exception):
    """No policies were named, or the configuration that names them cannot be read."""

    def __init__(self, message: str, problems: list[Problem]) -> None:
        super().__init__(message)
        self.message, self.problems = message, problems


@dataclass(slots=True)
class Chosen:
    """What was named: the files as read, the set (None if there are errors), every problem, the
    kinds of the upstreams by name, where rules and tools stand (`where`), which arguments are
    secrets, the detections beside the set, and the agents of the configuration (None without
    one). `unusable_tests` gives the errors in tests that `serve` would run; `root` is what the
    configuration says, as YAML."""

    reading: Reading
    policy_set: PolicySet | None
    problems: list[Problem]
    kinds: Mapping[str, str]
    where: Mapping[str, Position]
    secrets: Sequence[str]
    detections: Detections
    default: Literal["deny", "observe"] = "deny"
    agents: Sequence[Principal] | None = None
    unusable_tests: Callable[[], list[Problem]] = list
    root: Node | None = None


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """PATH… and --config."""
    parser.add_argument(
        "paths", nargs="*", default=[], metavar="PATH", help="files, folders, pack:NAME"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="take upstreams, `default` and (without PATH) `policies` from this sidecar.yaml; "
        "without it the catalogues say which upstreams there are",
    )


def use_usual_config(args: argparse.Namespace) -> None:
    """Without PATH and --config: the sidecar.yaml that other commands read."""
    import os

    if not args.paths and not args.config:
        args.config = os.environ.get("AEGIS_CONFIG") or "sidecar.yaml"


def load_chosen(args: argparse.Namespace) -> Chosen:
    """Loads what the arguments name as `serve` would; raises NothingChosen."""
    from pathlib import Path

    from sidecar.cli.policy_agents import agents_of, unmet_callers
    from sidecar.cli.policy_people import people_of, unmet_approvals
    from sidecar.policy_reading import take_reading
    from sidecar.soc.loading import detections_of, load_all
    from sidecar.soc.self_test import unusable_tests

    root, base = None, Path.cwd()
    problems: list[Problem] = []
    places: dict[str, Position] = {}
    if args.config:
        root, problems = _configuration(Path(args.config))
        if root is None:
            raise NothingChosen("", problems)
    entries = list(args.paths)
    if not entries and root is not None:
        base = Path(args.config).parent.absolute()
        places = _entries(root)
        entries = list(places)
    if not entries:
        raise NothingChosen("name files, folders or pack:NAME, or --config", problems)
    # A test that is named by itself is not beside what it tests.
    is_whole = not any((base / path).is_file() for path in args.paths)
    reading = take_reading(entries, base, places=places)
    kinds = _upstreams(root) if root is not None else _catalogued(reading)
    default: Literal["deny", "observe"] = "deny"
    if root is not None and _default(root) == "observe":
        default = "observe"
    secrets = _secrets(root)
    loaded = load_all(
        reading.sources,
        upstreams=kinds,
        default=default,
        read_file=reading.read_file,
        secrets=secrets,
    )
    found = {*problems, *reading.problems, *loaded.problems}
    agents = agents_of(root) if root is not None else None
    if root is not None and agents is not None and loaded.policy_set is not None:
        found.update(unmet_callers(loaded.policy_set, agents, loaded.places))
        people = people_of(root)
        found.update(unmet_approvals(loaded.policy_set, people, agents, loaded.places))
    return Chosen(
        reading,
        loaded.policy_set,
        sorted(found),
        kinds,
        loaded.places,
        secrets,
        detections_of(loaded),
        default,
        agents,
        partial(unusable_tests, loaded) if _runs_tests(root) and is_whole else list,
        root,
    )


def route_for(root: Node | None) -> Route:
    """How requests that are described are read: as by a sidecar with this configuration."""
    from sidecar.proxy.described_request import Paths, routing

    return routing(Paths(_whose(root, "encoded_slash"), _whose(root, "path_parameters")))


def kinds_in(root: Node | None) -> Mapping[str, str]:
    """The kinds of the upstreams of a configuration, by name."""
    return _upstreams(root) if root is not None else {}


def configured(path: str) -> Node:
    """What a sidecar.yaml says, as far as it is YAML. Raises NothingChosen."""
    from pathlib import Path

    root, problems = _configuration(Path(path))
    if root is None:
        raise NothingChosen("", problems)
    return root


def reload_chosen(chosen: Chosen, reading: Reading) -> LoadedPolicies:
    """What would be made of other files, for the same upstreams and with the same default."""
    from sidecar.soc.loading import load_all

    return load_all(
        reading.sources,
        upstreams=chosen.kinds,
        default=chosen.default,
        read_file=reading.read_file,
        secrets=chosen.secrets,
    )


def _configuration(path: Path) -> tuple[Node | None, list[Problem]]:
    """What the file says, as far as it is YAML; its settings are checked by `config check`."""
    from sidecar.problems import Position, Problem
    from sidecar.yaml_reader import salvage_yaml

    try:
        root, problems = salvage_yaml(str(path), path.read_bytes())
    except OSError as error:
        hint = "name the configuration with --config, or set AEGIS_CONFIG"
        return None, [Problem(Position(str(path)), f"cannot be read: {error.strerror}", hint)]
    if root is not None and not root.is_mapping:
        message = f"this is not a sidecar.yaml: it holds {root.kind}"
        return None, [*problems, Problem(root.position, message)]
    return root, problems


def _entries(root: Node) -> dict[str, Position]:
    """The entries of `policies`, with their places."""
    node = root.value.get("policies")
    listed = [] if node is None else node.value if node.is_list else [node]
    return {one.value: one.position for one in listed if isinstance(one.value, str) and one.value}


def _secrets(root: Node | None) -> Sequence[str]:
    """The names of `record.secrets`; the usual ones where the file does not say."""
    from sidecar.policy.load import SECRETS

    record = root.value.get("record") if root is not None else None
    node = record.value.get("secrets") if record is not None and record.is_mapping else None
    if node is None:
        return SECRETS
    listed = node.value if node.is_list else [node]
    return [one.value for one in listed if isinstance(one.value, str)]


def _default(root: Node) -> object:
    node = root.value.get("default")
    return node.plain() if node is not None else None


def _runs_tests(root: Node | None) -> bool:
    """Whether a set whose tests cannot be used does not come in force."""
    section = root.value.get("self_test") if root is not None else None
    run = section.value.get("run") if section is not None and section.is_mapping else None
    return run is None or run.value is not False


def _upstreams(root: Node) -> Mapping[str, str]:
    node = root.value.get("upstreams")
    found: dict[str, str] = {}
    for name, member in (node.value if node is not None and node.is_mapping else {}).items():
        kind = member.value.get("kind") if member.is_mapping else None
        known = kind is not None and kind.value in ("mcp", "authorize")
        found[name] = str(kind.value) if kind is not None and known else "rest"
    return found


def _catalogued(reading: Reading) -> Mapping[str, str]:
    """An upstream is taken to be REST if its catalogue has a route; problems are told later."""
    from sidecar.policy.fields import Problems
    from sidecar.policy.load import read_files

    files = read_files(reading.sources, reading.read_file, Problems())
    return {one.upstream: "rest" if one.has_routes else "mcp" for one in files.catalogues}


def _whose(root: Node | None, setting: str) -> list[str]:
    """The upstreams of which a setting is true."""
    node = root.value.get("upstreams") if root is not None else None
    members = node.value if node is not None and node.is_mapping else {}
    said = {name: one.value.get(setting) for name, one in members.items() if one.is_mapping}
    return sorted(name for name, one in said.items() if one is not None and one.value is True)


def show_problems(problems: list[Problem]) -> None:
    """Each once, in order, on standard error."""
    for problem in sorted(set(problems)):
        print(problem, file=sys.stderr)


def count_text(problems: list[Problem]) -> str:
    """`2 errors, 1 warning`."""
    errors = sum(not problem.is_warning for problem in problems)
    warnings = len(problems) - errors
    return f"{counted(errors, 'error')}, {counted(warnings, 'warning')}"
