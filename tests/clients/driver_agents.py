"""The MCP client of openai-agents with the fixture server at a URL; what it saw, as JSON.

python driver_agents.py URL      (in an environment of its own; openai-agents unmodified;
`server_at` is what deploy/guides/openai-agents.md shows)
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from agents.mcp import MCPServerStreamableHttp


def server_at(url: str, headers: dict[str, str]) -> MCPServerStreamableHttp:
    params = {"url": url, "headers": headers}
    return MCPServerStreamableHttp(params=params, client_session_timeout_seconds=60)


async def main(url: str) -> dict[str, Any]:
    async with server_at(url, {}) as server:
        called = {
            name: (await server.call_tool(name, {})).model_dump(mode="json", exclude={"meta"})
            for name in ("test_simple_text", "test_multiple_content_types", "test_error_handling")
        }
        prompt = await server.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        prompts = await server.list_prompts()
        return {
            "tools": sorted(tool.name for tool in await server.list_tools()),
            "prompts": sorted(prompt.name for prompt in prompts.prompts),
            "called": called,
            "prompt": prompt.messages[0].model_dump(mode="json"),
        }


print(json.dumps(asyncio.run(main(sys.argv[1]))))
