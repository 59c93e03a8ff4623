"""A session of fastmcp's client with the fixture server at a URL; what it saw, as JSON.

python driver_fastmcp.py URL      (in an environment of its own; unmodified fastmcp)
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from fastmcp import Client


async def main(url: str) -> dict[str, Any]:
    steps: list[Any] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append([done, total])

    async def elicited(message: str, _type: Any, _params: Any, _context: Any) -> dict[str, Any]:
        steps.append(message)
        return {"name": "Ada"}

    async with Client(url, progress_handler=progress, elicitation_handler=elicited) as client:
        error = await client.call_tool("test_error_handling", raise_on_error=False)
        mixed = await client.call_tool("test_multiple_content_types")
        walked = await client.call_tool("test_tool_with_progress")
        asked = await client.call_tool("test_input_required_result_elicitation")
        prompt = await client.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        read = await client.read_resource("test://template/7/data")
        return {
            "tools": sorted(tool.name for tool in await client.list_tools()),
            "mixed": [part.model_dump(mode="json") for part in mixed.content],
            "is_error": [error.is_error, error.content[0].text],
            "asked": asked.content[0].text,
            "walked": walked.content[0].text,
            "prompt": prompt.messages[0].model_dump(mode="json"),
            "read": [part.model_dump(mode="json") for part in read],
            "steps": steps,
        }


print(json.dumps(asyncio.run(main(sys.argv[1]))))
