"""What is not so in a page of documentation, each check as a list of sentences.

Knows: the command line's own parsers, the readers of the product's files, its lists of settings,
metrics, codes, alerts and routes.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from guide_reading import DATA_URL, PROGRAM, anchors, blocks, commands, links, names

import storage.errors
from sidecar.authorize.described import described
from sidecar.cli.contain import ACTIONS
from sidecar.cli.main import COMMANDS, _parser, main
from sidecar.cli.policy_sources import load_chosen
from sidecar.config.load import KEYS, load_config
from sidecar.config.settings import declared
from sidecar.control.api.table import written_document
from sidecar.errors import REFUSALS
from sidecar.model import Effect, TrustLevel
from sidecar.policy.rules import _RULE_FIELDS
from sidecar.problems import Problem
from sidecar.telemetry.metrics import METRICS
from storage.known_heads import StoreRolledBack

ROOT = Path(__file__).resolve().parents[3]
#: What pages use beside the product's own command.
PROGRAMS = {
    *("bash", "cd", "chmod", "cp", "curl", "docker", "echo", "export", "kubectl", "mkdir"),
    *("openssl", "sed"),
}
#: Where Kubernetes brings what the pages have beside the file.
MOUNTED = {"/run/secrets/aegis/": "", "/etc/aegis/policies": "./policies"}
#: How a warning begins, and the setting a page must name that shows a file which is warned of.
WARNED_OF = {"listen.control is open to other machines without TLS": "listen.control.tls"}
#: What looks like a setting: files, and what a change is called in the record.
NO_SETTINGS = {"runs.py", "receipts.jsonl", "receipts.rotate_key"}


def of_page(path: Path, page: str) -> list[str]:
    """All that needs no file of its own."""
    return [*of_links(path, page), *of_commands(page), *of_names(page)]


def of_guide(page: str) -> list[str]:
    """Programs that a guide does not say how to come by, and words like codes that are none;
    other pages name columns, arguments and what is there to deploy."""
    words = [name for name in names(page) if re.fullmatch(r"[a-z]+(_[a-z]+)+", name)]
    found = [
        f"nothing is called {word}"
        for word in words
        if not word.startswith("aegis_") and word not in _known_words()
    ]
    lines = [line for one in blocks(page) if one.language == "sh" for line in one.lines()]
    programs = {words[0] for line in lines for words in commands(line)}
    folder = "gate/policies"
    if f"# {folder}/" in page and f"mkdir -p {folder}" not in page:
        found.append(f"nothing makes {folder}")
    return found + [f"an unknown program: {one}" for one in programs - {PROGRAM, *PROGRAMS}]


def of_links(path: Path, page: str) -> list[str]:
    found = []
    for target in links(page):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists():
            found.append(f"a link leads nowhere: {target}")
        elif anchor and anchor not in anchors(page if file == path else file.read_text()):
            found.append(f"there is no such heading: {target}")
    return found


def of_commands(page: str) -> list[str]:
    found = []
    for block in blocks(page):
        for line in block.lines() if block.language == "sh" else ():
            for words in commands(line):
                found += _of_command(words)
    return found


def _of_command(words: list[str]) -> list[str]:
    if words[0] == PROGRAM:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                parser = _parser(words[1] if len(words) > 1 else "")
                parser.parse_args([word for word in words[1:] if word])
        except SystemExit as ended:
            if ended.code:
                said_last = (said.getvalue().strip().splitlines() or ["it does not parse"])[-1]
                return [f"{' '.join(words)}: {said_last}"]
        return []
    if words[0] == "bash" and not (ROOT / words[1]).is_file():
        return [f"there is no script {words[1]}"]
    if words[0] in ("docker", "kubectl"):
        named = [word for word in words if word.startswith("deploy/")]
        found = [f"there is no {one}" for one in named if not (ROOT / one).exists()]
        inside = words[words.index(PROGRAM) :] if PROGRAM in words else []
        return found + (_of_command(inside) if inside else [])
    return []


def of_names(page: str) -> list[str]:
    """Names in the prose that the code does not know."""
    found = [fault for name in names(page) for fault in _of_name(name)]
    return found + [
        f"there is no route {route}"
        for route in re.findall(rf"{re.escape(DATA_URL)}(/v1/[\w/{{}}]+)", page)
        if not _is_route(route)
    ]


def _of_name(name: str) -> Iterator[str]:
    words = name.split(" ")
    if words[0] == PROGRAM or (words[0] in COMMANDS and _is_asked(words)):
        yield from _of_short_command([one for one in words if one != PROGRAM])
    elif re.fullmatch(r"aegis_\w+", name):
        if not {name, re.sub(r"_(bucket|sum|count)$", "", name)} & {one.name for one in METRICS}:
            yield f"there is no metric {name}"
    elif re.fullmatch(r"Aegis[A-Z]\w+", name):
        if name not in _alerts():
            yield f"there is no alert {name}"
    elif match := re.fullmatch(r"(?:[A-Z]+ )?(/v1/\S+)", name):
        if not _is_route(match[1]):
            yield f"there is no route {name}"
    elif match := re.fullmatch(r"pack:([a-z-]+)", name):
        if not (ROOT / "policies" / match[1]).is_dir():
            yield f"there is no pack {name}"
    elif match := re.match(r"((?:freeze|quarantine|revoke|block|force)-\w+)", name):
        if match[1] not in ACTIONS:
            yield f"there is no action {match[1]}"
    elif match := re.fullmatch(r"(--[a-z-]+)(?: .*)?", name):
        if match[1] not in _options():
            yield f"no command has {match[1]}"
    elif match := re.fullmatch(r"([a-z]+(?:\.[\w-]+)+)(?:: .*)?", name):
        yield from () if _is_setting(match[1]) else (f"there is no setting {match[1]}",)


def _is_asked(words: list[str]) -> bool:
    """Whether it is a command, and not a sentence that begins like one."""
    return len(words) == 2 or any(word.startswith("--") or word.isupper() for word in words)


def _of_short_command(words: list[str]) -> Iterator[str]:
    """A command named in passing: its verbs and options exist; what it needs may be left out."""
    parser = _parser(words[0] if words else "")
    if "--" in words:
        words = words[: words.index("--")]
    for word in words:
        verbs = _verbs(parser)
        if verbs is None or word == "…":
            break
        if word not in verbs:
            yield f"`{' '.join(words)}`: there is no {word}"
            return
        parser = verbs[word]
    for word in words:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in parser._option_string_actions:
            yield f"`{' '.join(words)}` has no {option}"


def _verbs(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser] | None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return None


@functools.cache
def _options() -> frozenset[str]:
    """Those of every command."""
    left, found = [_parser("")], set()
    while left:
        parser = left.pop()
        found |= set(parser._option_string_actions)
        left += (_verbs(parser) or {}).values()
    return frozenset(found)


@functools.cache
def _alerts() -> frozenset[str]:
    texts = [path.read_text() for path in (ROOT / "deploy/prometheus").glob("*.yaml")]
    return frozenset(re.findall(r"alert: (\w+)", "\n".join(texts)))


@functools.cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(written_document(described()))
    return document


def _is_route(route: str) -> bool:
    """Also one whose variable parts are written in capitals, and the beginning of others."""
    asked = route.partition("?")[0].rstrip("/").split("/")
    for path in _document()["paths"]:
        parts = path.split("/")[: len(asked)]
        if len(parts) == len(asked) and all(
            have == want or have.startswith("{") for have, want in zip(parts, asked, strict=True)
        ):
            return True
    return False


def _is_setting(key: str) -> bool:
    """Or nothing that looks like one."""
    if key.split(".")[0] not in KEYS or key in NO_SETTINGS:
        return True
    return any(f"{one.key}.".startswith(f"{key}.") for one in declared())


@functools.cache
def _known_words() -> frozenset[str]:
    """Codes, effects, levels of trust, keys of rules, members of answers."""
    errors = [one for one in vars(storage.errors).values() if hasattr(one, "code")]
    found = {*REFUSALS, *(effect.value for effect in Effect), *_RULE_FIELDS, StoreRolledBack.code}
    found |= {error.code for error in errors} | {level.name.lower() for level in TrustLevel}
    return frozenset(found | set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', json.dumps(_document()))))


def of_files(page: str, folder: Path, environment: Mapping[str, str]) -> list[str]:
    """Writes the YAML of pages where it says, and loads it as `serve` would; runs its tests.

    `environment` is what its secrets are read from; secrets in files are made.
    """
    found, written = [], []
    for block in blocks(page):
        if block.language != "yaml":
            continue
        if not block.path:
            found.append(f"a file without its name: {block.text.splitlines()[0]}")
            continue
        path, text = folder / block.path, block.text
        for there, here in MOUNTED.items():
            text = text.replace(there, here)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.append(path)
        for name in re.findall(r"\{file: ([\w.-]+)\}", text):
            (path.parent / name).write_text(sha256(name.encode()).hexdigest())
            (path.parent / name).chmod(0o600)
    loaded: set[str] = set()
    for path in [one for one in written if one.name == "kustomization.yaml"]:
        found += _of_kustomization(path)
        loaded.add(path.name)
    for path in written:
        if re.search(r"^upstreams:", path.read_text(), re.MULTILINE):
            problems = load_config(path, dict(environment), []).problems
            chosen = load_chosen(argparse.Namespace(paths=[], config=str(path)))
            every = (*problems, *chosen.problems)
            found += [str(problem) for problem in every if not _is_told(problem, page)]
            found += _of_agents(page, path, environment)
            loaded |= {path.name, *(Path(one.name).name for one in chosen.reading.sources)}
    found += [f"nothing loads {path.name}" for path in written if path.name not in loaded]
    tests = [path for path in written if path.stem.endswith("_test")]
    if tests and not _passes(tests[0].parent):
        found.append("its tests do not pass")
    return found


def _of_agents(page: str, path: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Agents that commands name and the configuration does not have."""
    config = load_config(path, dict(environment), []).config
    known = {one for tenant in config.tenants.values() for one in tenant.agents} if config else {}
    for block in blocks(page):
        for line in block.lines() if block.language == "sh" else ():
            for words in commands(line):
                match words:
                    case [_, "runs" | "agents", _, str(agent), *_]:
                        pass
                    case [_, "contain", str(action), str(agent), *_] if "-agent" in action:
                        pass
                    case _:
                        continue
                if agent not in known:
                    yield f"{path.name} has no agent {agent}"


def _is_told(problem: Problem, page: str) -> bool:
    """Whether a page tells itself what `config check` warns of, by the setting that mends it."""
    return problem.is_warning and any(
        problem.message.startswith(warning) and f"`{setting}`" in page
        for warning, setting in WARNED_OF.items()
    )


def _of_kustomization(path: Path) -> list[str]:
    """Bases that are not there, as seen from a folder of the repository, and files that the page
    does not have; tests/unit/deploy renders it."""
    said = yaml.safe_load(path.read_text())
    folder = ROOT / path.parent.name
    bases = [one for one in said["resources"] if not (folder / one).resolve().is_dir()]
    files = [name for one in said["configMapGenerator"] for name in one["files"]]
    return [
        *(f"there is no base {one}" for one in bases),
        *(f"no block writes {name}" for name in files if not (path.parent / name).is_file()),
    ]


def _passes(policies: Path) -> bool:
    is_watching = any("detection:" in path.read_text() for path in policies.glob("*.yaml"))
    asked = ["soc", "test", "--strict"] if is_watching else ["policy", "test"]
    with contextlib.redirect_stdout(io.StringIO()):
        return main([*asked, str(policies)]) == 0
