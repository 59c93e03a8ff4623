"""`aegis-sidecar policy promote POLICY[/RULE]`: what was in shadow decides from now on."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sidecar.cli.policy_sources import (
    NothingChosen,
    add_source_arguments,
    kinds_in,
    load_chosen,
    reload_chosen,
    route_for,
    show_problems,
    use_usual_config,
)
from sidecar.counted import counted

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.cli.policy_sources import Chosen
    from sidecar.policy.promotion import Promotion
    from sidecar.policy_reading import Reading

NAME = "promote"
HELP = "turn `mode: shadow` of a policy or rule into enforce, once check and test pass with it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to promote, and where it is."""
    parser.add_argument("promoted", metavar="POLICY[/RULE]", help="the policy, or one of its rules")
    add_source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 promoted, 1 nothing was changed because something does not pass, 2 unusable."""
    from sidecar.policy.promotion import NotPromotable, promoted

    use_usual_config(args)
    try:
        chosen = load_chosen(args)
    except NothingChosen as error:
        show_problems(error.problems)
        if error.message:
            print(error.message, file=sys.stderr)
        return 2
    if chosen.policy_set is None:
        show_problems([one for one in chosen.problems if not one.is_warning])
        return _unchanged("the policies have errors as they are")
    policy, _, rule_id = args.promoted.partition("/")
    try:
        name = _file_of(policy, chosen)
        data = next(one.data for one in chosen.reading.sources if one.name == name)
        change = promoted(name, data, rule_id or None)
    except NotPromotable as error:
        print(error, file=sys.stderr)
        return 1
    reading = _with_file(chosen.reading, name, change.data)
    if not _passes(chosen, reading, policy):
        return 1
    try:
        _replace(chosen.reading.paths[name], data, change.data)
    except OSError as error:
        return _unchanged(f"{name} cannot be written: {error.strerror or error}", 2)
    _say(args.promoted, change)
    return 0


def _unchanged(why: str, code: int = 1) -> int:
    print(f"{why}: nothing was changed", file=sys.stderr)
    return code


def _say(name: str, change: Promotion) -> None:
    print(f"{name} is live: it decides, where it only watched")
    print(f"    {change.position}: {change.before}  →  {change.after}")
    print("    a running sidecar that reads this file takes it in a moment")


def _file_of(policy: str, chosen: Chosen) -> str:
    """The name of the file a policy stands in; raises NotPromotable."""
    from sidecar.policy.fields import did_you_mean
    from sidecar.policy.promotion import NotPromotable
    from sidecar.policy_reading import PACK_PREFIX

    names = policy_files(chosen.reading)
    if policy not in names:
        hint = did_you_mean(policy, names) or f"policies: {', '.join(sorted(names)) or 'none'}"
        raise NotPromotable(f"there is no policy {policy!r} here; {hint}")
    name = names[policy]
    if name.startswith(PACK_PREFIX):
        pack = name.removeprefix(PACK_PREFIX).partition("/")[0]
        raise NotPromotable(
            f"{policy} belongs to a pack: copy it first (`policy packs copy {pack}`)"
        )
    return name


def policy_files(reading: Reading) -> dict[str, str]:
    """The names of files by the policy that stands in them."""
    from sidecar.yaml_reader import read_documents

    found: dict[str, str] = {}
    for source in reading.sources:
        documents, _ = read_documents(source.name, source.data)
        node = documents[0] if documents else None
        if node is not None and node.is_mapping and next(iter(node.value), "") == "policy":
            found[str(node.value["policy"].plain())] = source.name
    return found


def _with_file(reading: Reading, name: str, data: bytes) -> Reading:
    """The reading as it would be with the file changed; tests of packs are left out, they have
    been run where packs are made."""
    from dataclasses import replace

    from sidecar.policy.load import Source
    from sidecar.policy_reading import PACK_PREFIX

    sources = [
        Source(name, data) if one.name == name else one
        for one in reading.sources
        if not (one.name.startswith(PACK_PREFIX) and one.data.lstrip().startswith(b"test:"))
    ]
    return replace(reading, sources=sources)


def _passes(chosen: Chosen, reading: Reading, policy: str) -> bool:
    """Whether everything loads with the change and every case passes; says what does not."""
    from sidecar.cli.policy_test import Outcome, show_failure

    loaded = reload_chosen(chosen, reading)
    errors = [problem for problem in loaded.problems if not problem.is_warning]
    if loaded.policy_set is None or errors:
        show_problems(errors)
        _unchanged("`policy check` does not pass with it")
        return False
    outcome = Outcome(route_for(chosen.root), kinds_in(chosen.root))
    outcome.add(reading, None)
    if outcome.has_errors:
        show_problems([one for one in outcome.problems if not one.is_warning])
        _unchanged("the tests beside the policies cannot be used")
        return False
    for result, places in outcome.results:
        if not result.passed:
            show_failure(result, places)
    if outcome.failed:
        _unchanged(f"{outcome.failed} of {len(outcome.results)} cases do not pass with it")
        return False
    tested = [one for one in outcome.results if policy in outcome.policies_of(one[0])]
    print(f"check passes, {counted(len(tested), 'case')} of {policy} pass with it")
    if not tested:
        print(f"    no case tests {policy}: nothing says what it does when it decides")
    return True


def _replace(path: Path, expected: bytes, data: bytes) -> None:
    """Whole or not at all, and only if the file is still what was tested. Raises OSError."""
    import os
    import tempfile
    from pathlib import Path

    target = path.resolve()
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _keep_readers(target, fresh)
        if target.read_bytes() != expected:
            raise OSError("it was changed by someone else meanwhile")
        fresh.replace(target)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _keep_readers(target: Path, fresh: Path) -> None:
    """What takes the place of a file may be read by whoever may read that: a sidecar that runs as
    another user, above all. Raises OSError where that cannot be."""
    import os
    import stat

    was = target.stat()
    mode = stat.S_IMODE(was.st_mode)
    try:
        os.chown(fresh, was.st_uid, was.st_gid)
    except PermissionError as error:
        if not mode & stat.S_IROTH:
            raise OSError("it is another user's or group's: do it as its owner or root") from error
    fresh.chmod(mode)
