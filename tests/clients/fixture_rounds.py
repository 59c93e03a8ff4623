"""Tools and a prompt of the fixture server that ask back: the rounds of revision 2026-07-28.

Knows: what each round asks for, what a good answer is, and that state comes back as it was given
(the server's boundary seals it).
Must not know: the other tools, transports.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as types
from mcp.shared.exceptions import MCPError

Context = Any
Round = Callable[[Context, Any], Awaitable[Any]]


def _form(message: str, name: str, kind: str = "string") -> types.ElicitRequest:
    wanted = {"type": "object", "properties": {name: {"type": kind}}, "required": [name]}
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=message, requested_schema=wanted)
    )


def _sample(message: str, tokens_max: int) -> types.CreateMessageRequest:
    asked = types.SamplingMessage(role="user", content=types.TextContent(text=message))
    return types.CreateMessageRequest(
        params=types.CreateMessageRequestParams(messages=[asked], max_tokens=tokens_max)
    )


def _ask(requests: dict[str, Any], state: str | None = None) -> types.InputRequiredResult:
    return types.InputRequiredResult(input_requests=requests, request_state=state)


def _done(said: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=said)])


def _filled(params: Any, key: str, name: str) -> Any:
    """The value a form came back with, None if it did not."""
    answer = (params.input_responses or {}).get(key)
    if isinstance(answer, types.ElicitResult) and answer.action == "accept":
        return (answer.content or {}).get(name)
    return None


def _state(params: Any, expected: str) -> None:
    if params.request_state != expected:
        raise MCPError(code=types.INVALID_PARAMS, message="The request state is not of this round")


async def elicitation(_: Context, params: Any) -> Any:
    name = _filled(params, "user_name", "name")
    if not isinstance(name, str):
        return _ask({"user_name": _form("What is your name?", "name")})
    return _done(f"Hello, {name}!")


async def sampling(_: Context, params: Any) -> Any:
    answer = (params.input_responses or {}).get("capital_question")
    if not isinstance(answer, types.CreateMessageResult):
        return _ask({"capital_question": _sample("What is the capital of France?", 100)})
    return _done(str(getattr(answer.content, "text", answer.content)))


async def list_roots(_: Context, params: Any) -> Any:
    answer = (params.input_responses or {}).get("client_roots")
    if not isinstance(answer, types.ListRootsResult):
        return _ask({"client_roots": types.ListRootsRequest()})
    return _done("Roots: " + ", ".join(str(root.uri) for root in answer.roots))


async def request_state(_: Context, params: Any) -> Any:
    if _filled(params, "confirm", "ok") is None:
        return _ask({"confirm": _form("Please confirm", "ok", "boolean")}, "asked")
    _state(params, "asked")
    return _done("state-ok")


async def multiple(_: Context, params: Any) -> Any:
    requests = {
        "user_name": _form("What is your name?", "name"),
        "greeting": _sample("Generate a greeting", 50),
        "client_roots": types.ListRootsRequest(),
    }
    if not requests.keys() <= (params.input_responses or {}).keys():
        return _ask(requests, "asked for three")
    _state(params, "asked for three")
    return _done(f"All three answered by {_filled(params, 'user_name', 'name')}.")


async def multi_round(_: Context, params: Any) -> Any:
    name, color = _filled(params, "step1", "name"), _filled(params, "step2", "color")
    if color is not None and str(params.request_state).startswith("two:"):
        return _done(f"{str(params.request_state)[4:]} likes {color}.")
    if name is not None:
        _state(params, "one")
        step = _form("Step 2: What is your favorite color?", "color")
        return _ask({"step2": step}, f"two:{name}")
    return _ask({"step1": _form("Step 1: What is your name?", "name")}, "one")


async def capabilities(context: Context, _: Any) -> Any:
    declared = context.session.client_capabilities
    requests: dict[str, Any] = {}
    if declared is not None and declared.sampling is not None:
        requests["sample"] = _sample("Say something", 50)
    if declared is not None and declared.elicitation is not None:
        requests["form"] = _form("What is your name?", "name")
    return _ask(requests) if requests else _done("This client can be asked nothing.")


async def missing_capability(context: Context, _: Any) -> Any:
    declared = context.session.client_capabilities
    if declared is None or declared.sampling is None:
        needed = types.ClientCapabilities(sampling=types.SamplingCapability())
        data = types.MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
        raise MCPError(
            code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool needs a client that can sample",
            data=data.model_dump(by_alias=True, exclude_none=True, mode="json"),
        )
    return _done("The client can sample.")


async def prompt_round(_: Context, params: Any) -> Any:
    context_said = _filled(params, "user_context", "context")
    if context_said is None:
        return _ask({"user_context": _form("What context should the prompt use?", "context")})
    content = types.TextContent(text=f"Use this context: {context_said}")
    return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=content)])


ROUNDS: dict[str, Round] = {
    "test_input_required_result_elicitation": elicitation,
    "test_streaming_elicitation": elicitation,
    "test_input_required_result_sampling": sampling,
    "test_input_required_result_list_roots": list_roots,
    "test_input_required_result_request_state": request_state,
    "test_input_required_result_tampered_state": request_state,
    "test_input_required_result_multiple_inputs": multiple,
    "test_input_required_result_multi_round": multi_round,
    "test_input_required_result_capabilities": capabilities,
    "test_missing_capability": missing_capability,
}
