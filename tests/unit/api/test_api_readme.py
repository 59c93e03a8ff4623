"""The commands of the API's README are run as they stand, and its table of roles is the code's.

To write the table anew: AEGIS_WRITE_README=1 python -m pytest tests/unit/api/test_api_readme.py
"""

from __future__ import annotations

import asyncio
import fnmatch
import os
import re
import sys
from pathlib import Path

from api_examples import in_shadow
from api_setup import Served, key_of

import sidecar.control.api
from sidecar.control.api import mount, parameters, route
from sidecar.control.api.table import ROUTES
from sidecar.model import Role
from storage import listings

PATH = Path(sidecar.control.api.__file__).parent / "README.md"
README = PATH.read_text()


async def test_the_commands_answer_as_they_are_shown_to(served: Served, tmp_path: Path) -> None:
    blocks = re.findall(r"^```(sh|text)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    await served.recorder.notice("acme")
    await in_shadow(served)
    await served.recorder.call("acme", "that-differs", args={"id": "7"})
    environ = {
        **os.environ, "AEGIS_CONTROL": served.url, "AEGIS_KEY": key_of("acme", "admin"),
        "CALL": "refund-acme", "AGENT": "coder-acme", "INCIDENT": "incident-of-acme",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    said, shown = "", 0
    for kind, text in blocks:
        if kind == "text":
            pattern = text.strip().replace("[", "[[]").replace("…", "*")
            assert fnmatch.fnmatchcase(said, f"{pattern}*"), (text, said)
            shown += 1
            continue
        script = text.replace("\n", " && echo\n") if "\\\n" not in text else text
        process = await asyncio.create_subprocess_exec(
            "bash", "-ec", script.strip().removesuffix("&& echo"), cwd=tmp_path, env=environ,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, (text, err.decode())
        said = out.decode()
        assert not re.search(r'"status":\s*\d', said), said
    assert shown == sum(kind == "sh" for kind, _ in blocks) == 6


def table() -> str:
    rows = ["| role | what it may do beside what every role may look at |", "| --- | --- |"]
    for role in Role:
        mine = [one for one in ROUTES if role in one.roles and one.roles != frozenset(Role)]
        named = ", ".join(f"`{one.method} {one.path}`" for one in mine) or "nothing"
        if role is Role.ADMIN:
            own = [one for one in mine if one.roles == {Role.ADMIN}]
            named = "all of that, and " + ", ".join(f"`{one.method} {one.path}`" for one in own)
        rows.append(f"| `{role.value}` | {named} |")
    return "\n".join(rows)


def test_the_table_of_roles_is_that_of_the_routes() -> None:
    start, end = "<!-- roles -->\n", "\n<!-- /roles -->"
    told = README[README.index(start) + len(start) : README.index(end)]
    if os.environ.get("AEGIS_WRITE_README"):
        PATH.write_text(README.replace(told, table()))
        return
    assert told == table()


def test_the_numbers_it_names_are_those_of_the_code() -> None:
    for number in (
        f"({parameters.LIMIT_USUAL}, up to {parameters.LIMIT_MAX})",
        f"{listings.RECEIPTS_LOOKED_AT:,} receipts",
        f"({listings.CHANGES_LOOKED_AT:,} changes",
        f"{listings.DIFFERENCES_LOOKED_AT:,} of what rules in shadow would change",
        f"{parameters.OFFSET_MAX:,} items",
        f"up to {route.BODY_BYTES_MAX // 1024} KiB",
        f"{mount.REQUESTS_MAX} requests",
    ):
        assert number in README.replace("\n", " "), number
    assert mount.STREAMS_MAX == 2 and "two exports" in README
