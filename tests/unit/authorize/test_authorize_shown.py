"""E6 over real sockets: what an agent says of itself does not write the terminal of who decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import ClientSession, UnixConnector
from authorize_setup import AGENT_TOKEN, call, stage

from sidecar.cli.approvals import _lines


@pytest.mark.parametrize("user", ["bo\n  tool       github/read_issue\x1b[8m", "bo\u202etxt.exe"])
async def test_e6_the_user_an_agent_names_cannot_forge_lines_of_the_command_line(
    tmp_path: Path, user: str
) -> None:
    async with stage(tmp_path) as one:
        request = call(
            "merge_pull_request", mutates=True, parameters={"pull_number": 1},
            user={"id": user, "role": "dev"},
        )  # fmt: skip
        answer = await one.authorize(request, token=AGENT_TOKEN)
        assert answer.json["decision"] == "require_approval"
        asked = {"id": answer.json["approval"]["approval_id"].replace("-", "")}
        path = str(one.folder / "control.sock")
        async with (
            ClientSession(connector=UnixConnector(path)) as session,
            session.post("http://x/approvals/show", json=asked) as reply,
        ):
            said = await reply.json()
    lines = _lines(said)
    assert all(line.isprintable() for line in lines), "a line ends, or hides, where it should not"
    assert sum(line.startswith("  tool ") for line in lines) == 1
