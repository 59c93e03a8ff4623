"""langchain-mcp-adapters with the fixture server at a URL; what it saw, as JSON.

python driver_langchain.py URL      (in an environment of its own; the adapters unmodified;
`tools_of` is what deploy/guides/langchain.md shows)
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from langchain_core.tools import BaseTool
from langchain_mcp_adapters.client import MultiServerMCPClient


async def tools_of(url: str, headers: dict[str, str]) -> list[BaseTool]:
    servers = {"files": {"transport": "streamable_http", "url": url, "headers": headers}}
    return await MultiServerMCPClient(servers).get_tools()


async def main(url: str) -> dict[str, Any]:
    client = MultiServerMCPClient({"fixture": {"transport": "streamable_http", "url": url}})
    tools = {tool.name: tool for tool in await tools_of(url, {})}
    said = await tools["test_simple_text"].ainvoke({})
    mixed = await tools["test_multiple_content_types"].ainvoke({})
    try:
        error: Any = _without_ids(await tools["test_error_handling"].ainvoke({}))
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    prompt = await client.get_prompt(
        "fixture", "test_prompt_with_arguments", arguments={"arg1": "a", "arg2": "b"}
    )
    read = await client.get_resources("fixture", uris=["test://static-text"])
    return {
        "tools": sorted(tools),
        "said": _without_ids(said),
        "mixed": _without_ids(mixed),
        "error": error,
        "prompt": [message.content for message in prompt],
        "read": [blob.as_string() for blob in read],
    }


def _without_ids(parts: Any) -> Any:
    """LangChain gives each part an id of its own."""
    if not isinstance(parts, list):
        return parts
    return [{k: v for k, v in part.items() if k != "id"} for part in parts]


print(json.dumps(asyncio.run(main(sys.argv[1]))))
