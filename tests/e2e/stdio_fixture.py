"""The fixture server over stdio, as a program; also with a tool that asks its client's model.

CANCELLED names a file that gets a line for each call that was cancelled; SAID_OF_ADD is what it
says of that tool, instead of what it says else.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import mcp_fixture

warnings.simplefilter("ignore")


class _Noted(list[str]):
    def append(self, label: str) -> None:
        with Path(os.environ["CANCELLED"]).open("a") as file:
            file.write(f"{label}\n")


mcp_fixture.cancelled = _Noted()
if said_of_add := os.environ.get("SAID_OF_ADD"):
    mcp_fixture.said_of_add["description"] = said_of_add
server = mcp_fixture.build()
mcp_fixture.add_ask(server)

if __name__ == "__main__":
    sys.exit(server.run("stdio"))
