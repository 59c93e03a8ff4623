"""What README shows of the authorize API is run, and what it says comes is what comes."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

from authorize_setup import stage

from sidecar.demo.files import POLICY

README = Path(__file__).parents[3] / "README.md"
TOOLS = """\
catalogue: shop
tools:
  "*": {returns: trusted_internal_unsigned}
  get_order: {mutates: false}
  refund: {risk: high}
"""


def section() -> str:
    text = README.read_text()
    begins = text.index("### Tools that are not HTTP")
    return text[begins : text.index("\n## ", begins)]


async def test_the_example_of_readme_asks_for_an_approval(tmp_path: Path) -> None:
    (command,) = re.findall(r"^```sh\n(.*?)^```$", section(), re.DOTALL | re.MULTILINE)
    (shown,) = re.findall(r"^```text\n(.*?)^```$", section(), re.DOTALL | re.MULTILINE)
    async with stage(
        tmp_path, policy=POLICY, catalogue=TOOLS, upstream="shop: {kind: authorize}"
    ) as one:
        script = command.replace("http://127.0.0.1:8080", one.sidecar.data_url)
        run = await asyncio.create_subprocess_exec(
            "bash", "-ec", script, stdout=asyncio.subprocess.PIPE
        )
        said = (await run.communicate())[0].decode()
    assert run.returncode == 0
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    assert re.fullmatch(pattern, said), said
    answer = json.loads(said)
    assert answer["reason"] == "a refund of 12000 cents needs a person's yes"


async def test_readme_names_what_is_there() -> None:
    text = section()
    for word in (
        "request_id",
        "nonce",
        "redacted_fields",
        "claimed_action_hash",
        "kind: authorize",
    ):
        assert word in text
