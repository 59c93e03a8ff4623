"""`aegis-sidecar config check|show`: is the configuration sound, and what is in force?

Knows: where the configuration is looked for, and that its policies must be there to be read (what
is wrong with them is for `policy check`; what is let through unjudged is said here too). Starts
nothing, opens no store.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sidecar.config.model import Config
    from sidecar.problems import Position

NAME = "config"
HELP = "check the configuration, or show what is in force"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """check and show."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    check = actions.add_parser("check", help="name every problem of the configuration")
    show = actions.add_parser("show", help="effective values, secrets masked, and their origin")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    for action in (check, show):
        action.add_argument(
            "--config",
            metavar="FILE",
            help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)",
        )
        action.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="a setting that goes over file and environment, e.g. limits.queue=100",
        )


def run(args: argparse.Namespace) -> int:
    """0 if the configuration can be used, 1 if it has problems, 2 if it cannot be read."""
    import os
    from pathlib import Path

    from sidecar.config.load import load_config
    from sidecar.config.show import show_json, show_text, who_may_call
    from sidecar.policy_reading import check_entries

    path = Path(args.config or os.environ.get("AEGIS_CONFIG") or "sidecar.yaml")
    loaded = load_config(path, os.environ, args.set)
    config = loaded.config
    # What `check` finds is its output; `show` keeps its output for the values.
    out = sys.stdout if args.action == "check" else sys.stderr
    is_check = args.action == "check"
    unusable = check_entries(loaded.entries, Path.cwd()) if is_check else []
    for problem in [*loaded.problems, *unusable]:
        print(problem, file=out)
    if config is None or unusable:
        return 1 if loaded.is_readable else 2
    if args.action == "show":
        write = show_json if args.json else show_text
        sys.stdout.write(write(config, loaded.origins))
        return 0
    for tool in _unjudged(config, loaded.entries):
        print(f"{tool}: warning: what goes through its WebSocket is not judged, only its handshake")
    print(
        f"{path}: fine. Upstreams: {', '.join(config.upstreams)}. "
        f"Agents call {config.listen.data.url}; default is {config.default}."
    )
    for line in who_may_call(config):
        print(line)
    return 0


def _unjudged(config: Config, entries: Mapping[str, Position]) -> list[str]:
    """Tools whose routes may be upgraded; none while the policies cannot be used."""
    from pathlib import Path

    from sidecar.policy.load import load_policies
    from sidecar.policy_reading import take_reading

    reading = take_reading(entries, Path.cwd(), places=entries)
    loaded = load_policies(
        reading.sources,
        upstreams={name: upstream.kind for name, upstream in config.upstreams.items()},
        default=config.default,
        read_file=reading.read_file,
    )
    if loaded.policy_set is None:
        return []
    return [entry.tool.name for entry in loaded.policy_set.catalogue.entries if entry.websocket]
