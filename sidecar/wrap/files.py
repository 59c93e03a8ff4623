"""Where a wrapped server's record and rules stand, and what is written there the first time.

Knows: the folder of each name (XDG base directories), that it is its user's alone, and the texts of
the files in it. They are written once and are the user's from then on; two processes that begin
at the same moment write each of them once, whole.
Must not know: how they are read.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sidecar.errors import StartRefused

PRODUCT: Final = "aegis-sidecar"
CONFIGURATION_NAME: Final = "sidecar.yaml"
STORE_NAME: Final = "aegis.db"
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
_ANOTHER: Final = "; name another folder with --data-dir"

_CONFIGURATION: Final = """\
# Written once by `aegis-sidecar wrap --name {name}`; from now on it is yours to edit.
# A change here counts from the next start on; one in ./policies within two seconds.
# Look at the record with
#   aegis-sidecar receipts export --config {path}
# A rule may ask you first (effect: require_approval). What waits for your yes, and how to give it:
#   aegis-sidecar approvals watch --config {path}
#   aegis-sidecar approvals approve ID --config {path}
default: deny                  # what no rule allows is refused; ./policies says what is allowed
policies: ./policies
upstreams:
  "{name}":
    url: stdio                 # the command stands in the configuration of your agent
    kind: mcp
    timeouts: {{idle: 1h}}       # a server that says nothing at all for so long is given up
"""

_POLICY: Final = """\
# What the server `{name}` may be asked to do. Edit me while it runs: a saved file is in force
# within two seconds, and a broken one changes nothing. This says what is wrong with it:
#   aegis-sidecar policy check --config {path}
#
# At first everything is allowed, and everything is recorded. Take away what you do not want:
# declare a tool in tools.yaml, then refuse it here. The strictest rule that matches wins, wherever
# it stands. Or take `everything` out, and allow only what you name; what the protocol itself needs
# always passes.
policy: start
rules:
  - id: everything
    effect: allow
    tools: ["{name}/*", "{name}/unknown", "{name}/mcp:*"]

# Without the # in front, this is a rule, of such tools as tools.yaml declares; the agent is not
# even shown what it refuses always:
#  - id: no-deleting
#    effect: deny
#    tools: "{name}/delete_*"
"""

_CATALOGUE: Final = """\
# What you know of the tools of the server `{name}`. A tool that stands nowhere here is
# `{name}/unknown`, whatever its name; a rule can name a tool that stands here.
# This prints them all, as the server lists them, for you to put here after a look at them:
#   aegis-sidecar wrap --name {name} --import-tools -- COMMAND
catalogue: "{name}"
tools:
  "*": {{}}
#  read_file: {{mutates: false}}         # it changes nothing
#  fetch: {{mutates: false, returns: untrusted_external}}
#  delete_file: {{}}                     # as cautious as can be: it changes things
"""


def default_folder(name: str, environ: Mapping[str, str]) -> Path:
    """`$XDG_DATA_HOME/aegis-sidecar/NAME`, by default below `~/.local/share`.

    Raises StartRefused where no home can be found.
    """
    told = environ.get("XDG_DATA_HOME", "")
    if Path(told).is_absolute():  # the specification: a relative path is to be ignored
        return Path(told) / PRODUCT / name
    try:
        return Path.home() / ".local" / "share" / PRODUCT / name
    except RuntimeError as error:
        raise StartRefused("there is no home directory: name a folder with --data-dir") from error


def make_folder(folder: Path) -> None:
    """Makes the folder and what is missing above it, for its user alone. Raises StartRefused."""
    try:
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        for one in reversed(missing):
            one.mkdir(mode=FOLDER_MODE, exist_ok=True)
        if not folder.is_dir():
            raise StartRefused(f"{folder} is no folder{_ANOTHER}")
    except OSError as error:
        raise StartRefused(f"{folder} cannot be made: {error.strerror}{_ANOTHER}") from error


def write_first_files(folder: Path, name: str) -> Path:
    """Writes the configuration where there is none yet, and the first rules where there are no
    rules: beside rules of its user's own, one that allows everything would open what they close.

    Gives the configuration's path. Raises StartRefused.
    """
    path = folder / CONFIGURATION_NAME
    try:
        if not path.exists():
            make_folder(folder / "policies")
            _write_missing(path, folder / "policies", name)
    except OSError as error:
        said = f"{folder} cannot be read or written: {error.strerror}{_ANOTHER}"
        raise StartRefused(said) from error
    return path


def _write_missing(path: Path, policies: Path, name: str) -> None:
    values = {"name": name, "path": shlex.quote(str(path))}
    texts = {path: _CONFIGURATION}
    rules = {policies / "start.yaml": _POLICY, policies / "tools.yaml": _CATALOGUE}
    # Of another process that begins, or of one that did not come so far, there may be some already.
    if all(one in rules or one.name.startswith(".") for one in policies.iterdir()):
        # The configuration last: where it stands, the others were written.
        texts = {**rules, **texts}
    for target, text in texts.items():
        _write_once(target, text.format(**values))


def _write_once(path: Path, text: str) -> None:
    """Writes the file if there is none; it appears whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return
    finally:
        draft.unlink()
