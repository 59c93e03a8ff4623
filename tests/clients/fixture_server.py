"""An MCP server for the official conformance suite, on the low level of PyPI's `mcp`.

    python tests/clients/fixture_server.py PORT

Knows: the tools, prompts and resources that the suite's server scenarios ask for by name, and what
each must answer, as the scenarios' own descriptions say; both eras of the protocol.
Must not know: the sidecar, the suite's results.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
import uvicorn
from fixture_rounds import ROUNDS, Round, prompt_round
from fixture_values import (
    ARGUMENT_PROMPT,
    DEFAULTS_SCHEMA,
    ENUMS_SCHEMA,
    HEADER_SCHEMA,
    MESSAGE_SCHEMA,
    NO_ARGUMENTS,
    PNG,
    PROMPT_ARGUMENT,
    RESOURCE_PROMPT,
    RESOURCES,
    SCHEMA_2020,
    TEMPLATE,
    USER_SCHEMA,
    WAV,
)
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import NotificationOptions
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    ListenHandler,
    PromptsListChanged,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError

Context = Any
Tool = Callable[[Context, dict[str, Any]], Awaitable[list[Any]]]

TOOLS: dict[str, tuple[dict[str, Any], Tool]] = {}
BUS = InMemorySubscriptionBus()
PAUSE_S = 0.05


class ToolFailure(Exception):
    """What a tool says went wrong, to the model."""


def tool(name: str, schema: dict[str, Any] = NO_ARGUMENTS) -> Callable[[Tool], Tool]:
    def register(function: Tool) -> Tool:
        TOOLS[name] = (schema, function)
        return function

    return register


def text(value: str) -> types.TextContent:
    return types.TextContent(text=value)


def embedded(uri: str, mime: str, value: str) -> types.EmbeddedResource:
    resource = types.TextResourceContents(uri=uri, mime_type=mime, text=value)
    return types.EmbeddedResource(resource=resource)


# -- tools that answer at once -----------------------------------------------------------------


@tool("test_simple_text")
async def simple_text(_: Context, __: dict[str, Any]) -> list[Any]:
    return [text("This is a simple text response for testing.")]


@tool("test_image_content")
async def image(_: Context, __: dict[str, Any]) -> list[Any]:
    return [types.ImageContent(data=PNG, mime_type="image/png")]


@tool("test_audio_content")
async def audio(_: Context, __: dict[str, Any]) -> list[Any]:
    return [types.AudioContent(data=WAV, mime_type="audio/wav")]


@tool("test_embedded_resource")
async def resource(_: Context, __: dict[str, Any]) -> list[Any]:
    said = "This is an embedded resource content."
    return [embedded("test://embedded-resource", "text/plain", said)]


@tool("test_multiple_content_types")
async def mixed(_: Context, __: dict[str, Any]) -> list[Any]:
    document = json.dumps({"test": "data", "value": 123})
    return [
        text("Multiple content types test:"),
        types.ImageContent(data=PNG, mime_type="image/png"),
        embedded("test://mixed-content-resource", "application/json", document),
    ]


@tool("test_error_handling")
async def error(_: Context, __: dict[str, Any]) -> list[Any]:
    raise ToolFailure("This tool intentionally returns an error for testing")


@tool("json_schema_2020_12_tool", SCHEMA_2020)
async def schema_2020(_: Context, arguments: dict[str, Any]) -> list[Any]:
    return [text(json.dumps(arguments))]


@tool("test_header_parameter", HEADER_SCHEMA)
async def header_parameter(_: Context, arguments: dict[str, Any]) -> list[Any]:
    return [text(f"region {arguments.get('region')}")]


# -- tools that talk while they work -----------------------------------------------------------


@tool("test_tool_with_logging")
@tool("test_logging_tool")
async def logging(context: Context, _: dict[str, Any]) -> list[Any]:
    steps = ("Tool execution started", "Tool processing data", "Tool execution completed")
    for number, step in enumerate(steps):
        if number:
            await asyncio.sleep(PAUSE_S)
        await context.session.send_log_message("info", step, related_request_id=context.request_id)
    return [text("Logged three lines.")]


@tool("test_tool_with_progress")
async def progress(context: Context, _: dict[str, Any]) -> list[Any]:
    for done in (0, 50, 100):
        if done:
            await asyncio.sleep(PAUSE_S)
        await context.session.report_progress(done, 100)
    return [text("Reached 100 of 100.")]


@tool("test_sampling", PROMPT_ARGUMENT)
async def sampling(context: Context, arguments: dict[str, Any]) -> list[Any]:
    asked = types.SamplingMessage(role="user", content=text(arguments["prompt"]))
    answer = await context.session.create_message(
        [asked], max_tokens=100, related_request_id=context.request_id
    )
    return [text(f"LLM response: {getattr(answer.content, 'text', '')}")]


async def _elicited(context: Context, message: str, schema: dict[str, Any]) -> types.ElicitResult:
    answer: types.ElicitResult = await context.session.elicit_form(
        message, schema, related_request_id=context.request_id
    )
    return answer


@tool("test_elicitation", MESSAGE_SCHEMA)
async def elicitation(context: Context, arguments: dict[str, Any]) -> list[Any]:
    answer = await _elicited(context, arguments["message"], USER_SCHEMA)
    said = json.dumps(answer.content)
    return [text(f"User response: action: {answer.action}, content: {said}")]


@tool("test_elicitation_sep1034_defaults")
async def elicitation_defaults(context: Context, _: dict[str, Any]) -> list[Any]:
    answer = await _elicited(context, "Please look over these values", DEFAULTS_SCHEMA)
    said = json.dumps(answer.content)
    return [text(f"Elicitation completed: action={answer.action}, content={said}")]


@tool("test_elicitation_sep1330_enums")
async def elicitation_enums(context: Context, _: dict[str, Any]) -> list[Any]:
    answer = await _elicited(context, "Please choose", ENUMS_SCHEMA)
    said = json.dumps(answer.content)
    return [text(f"Elicitation completed: action={answer.action}, content={said}")]


@tool("test_reconnection")
async def reconnection(context: Context, _: dict[str, Any]) -> list[Any]:
    """Ends its stream in the middle; the rest is read by resuming."""
    await asyncio.sleep(4 * PAUSE_S)  # the stream's first event, by which it is resumed, goes first
    if context.close_sse_stream is not None:
        await context.close_sse_stream()
    await asyncio.sleep(4 * PAUSE_S)
    return [text("Answered after the stream was closed.")]


@tool("test_trigger_tool_change")
async def tool_change(_: Context, __: dict[str, Any]) -> list[Any]:
    await BUS.publish(ToolsListChanged())
    return [text("The list of tools has changed.")]


@tool("test_trigger_prompt_change")
async def prompt_change(_: Context, __: dict[str, Any]) -> list[Any]:
    await BUS.publish(PromptsListChanged())
    return [text("The list of prompts has changed.")]


# -- the server --------------------------------------------------------------------------------


async def list_tools(_: Context, __: Any) -> types.ListToolsResult:
    schemas = {name: schema for name, (schema, _) in TOOLS.items()}
    schemas |= dict.fromkeys(ROUNDS, NO_ARGUMENTS)
    return types.ListToolsResult(
        tools=[
            types.Tool(name=name, description=f"Answers what {name} is asked for.",
                       input_schema=schema)
            for name, schema in schemas.items()
        ]
    )  # fmt: skip


async def call_tool(context: Context, params: types.CallToolRequestParams) -> Any:
    many_rounds: Round | None = ROUNDS.get(params.name)
    if many_rounds is not None:
        return await many_rounds(context, params)
    if params.name not in TOOLS:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {params.name}")
    schema, function = TOOLS[params.name]
    arguments = params.arguments or {}
    missing = [name for name in schema.get("required", []) if name not in arguments]
    if missing:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Missing: {', '.join(missing)}")
    try:
        return types.CallToolResult(content=await function(context, arguments))
    except ToolFailure as failure:
        return types.CallToolResult(content=[text(str(failure))], is_error=True)


async def list_resources(_: Context, __: Any) -> types.ListResourcesResult:
    return types.ListResourcesResult(
        resources=[
            types.Resource(uri=uri, name=uri.partition("://")[2], mime_type=mime,
                           description=f"What stands at {uri}.")
            for uri, (mime, _) in RESOURCES.items()
        ]
    )  # fmt: skip


async def list_templates(_: Context, __: Any) -> types.ListResourceTemplatesResult:
    template = types.ResourceTemplate(
        uri_template="test://template/{id}/data", name="template", mime_type="application/json",
        description="Data of one id.",
    )  # fmt: skip
    return types.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(
    _: Context, params: types.ReadResourceRequestParams
) -> types.ReadResourceResult:
    uri = str(params.uri)
    content: types.TextResourceContents | types.BlobResourceContents
    matched = re.fullmatch(TEMPLATE, uri)
    if matched:
        said = {"id": matched[1], "templateTest": True, "data": f"Data for ID: {matched[1]}"}
        content = types.TextResourceContents(
            uri=uri, mime_type="application/json", text=json.dumps(said)
        )
    elif uri in RESOURCES:
        mime, value = RESOURCES[uri]
        if mime == "image/png":
            content = types.BlobResourceContents(uri=uri, mime_type=mime, blob=value)
        else:
            content = types.TextResourceContents(uri=uri, mime_type=mime, text=value)
    else:
        raise MCPError(code=types.INVALID_PARAMS, message="Resource not found", data={"uri": uri})
    return types.ReadResourceResult(contents=[content])


async def no_answer(_: Context, __: Any) -> types.EmptyResult:
    return types.EmptyResult()


async def list_prompts(_: Context, __: Any) -> types.ListPromptsResult:
    def prompt(name: str, *arguments: str) -> types.Prompt:
        named = [
            types.PromptArgument(name=argument, description=f"The {argument}.", required=True)
            for argument in arguments
        ]
        return types.Prompt(name=name, description=f"Says what {name} says.", arguments=named)

    return types.ListPromptsResult(
        prompts=[
            prompt("test_simple_prompt"),
            prompt(ARGUMENT_PROMPT, "arg1", "arg2"),
            prompt(RESOURCE_PROMPT, "resourceUri"),
            prompt("test_prompt_with_image"),
            prompt("test_input_required_result_prompt"),
        ]
    )


async def get_prompt(context: Context, params: types.GetPromptRequestParams) -> Any:
    arguments = params.arguments or {}
    contents: list[Any]
    if params.name == "test_simple_prompt":
        contents = [text("This is a simple prompt for testing.")]
    elif params.name == ARGUMENT_PROMPT:
        one, two = arguments.get("arg1"), arguments.get("arg2")
        contents = [text(f"Prompt with arguments: arg1='{one}', arg2='{two}'")]
    elif params.name == RESOURCE_PROMPT:
        said = "Embedded resource content for testing."
        contents = [
            embedded(arguments["resourceUri"], "text/plain", said),
            text("Please process the embedded resource above."),
        ]
    elif params.name == "test_prompt_with_image":
        image_content = types.ImageContent(data=PNG, mime_type="image/png")
        contents = [image_content, text("Please analyze the image above.")]
    elif params.name == "test_input_required_result_prompt":
        return await prompt_round(context, params)
    else:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown prompt: {params.name}")
    messages = [types.PromptMessage(role="user", content=content) for content in contents]
    return types.GetPromptResult(messages=messages)


async def complete(_: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    words = [word for word in ("paris", "park", "party") if word.startswith(params.argument.value)]
    found = types.Completion(values=words, total=len(words), has_more=False)
    return types.CompleteResult(completion=found)


class Events(EventStore):
    """What was sent on each stream, so that a client can resume it."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._kept: list[tuple[str, str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        event_id = f"e{next(self._numbers)}"
        self._kept.append((event_id, stream_id, message))
        return event_id

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        places = [at for at, (known, _, _) in enumerate(self._kept) if known == last_event_id]
        if not places:
            return None
        stream = self._kept[places[0]][1]
        for event_id, stream_id, message in self._kept[places[0] + 1 :]:
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, event_id))
        return stream


class Changing(Server[Any]):
    """A server whose lists may change, also to clients of the era of sessions."""

    def create_initialization_options(self, *_: Any, **rest: Any) -> Any:
        changes = NotificationOptions(prompts_changed=True, tools_changed=True)
        return super().create_initialization_options(changes, **rest)


def build() -> Server[Any]:
    server = Changing(
        "conformance-fixture",
        version="1.0.0",
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_subscribe_resource=no_answer,
        on_unsubscribe_resource=no_answer,
        on_subscriptions_listen=ListenHandler(BUS),
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_set_logging_level=no_answer,
    )
    security = RequestStateSecurity.ephemeral()
    server.middleware.append(RequestStateBoundary(security, default_audience=server.name))
    return server


if __name__ == "__main__":
    application = build().streamable_http_app(event_store=Events(), retry_interval=100)
    # By h11: uvicorn's reader on httptools keeps blanks behind a header's value, which the suite
    # counts against the server.
    uvicorn.run(application, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", http="h11")
