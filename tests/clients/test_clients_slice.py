"""The conformance fixture through the sidecar, by the official Python SDK: the same as direct."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp import types
from mcp.client import Client
from mcp.shared.exceptions import MCPError

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

from clients_stage import Stage, staged
from clients_suite import differences, figures, read_checks

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

QUIET = (
    "test_simple_text", "test_image_content", "test_audio_content", "test_embedded_resource",
    "test_multiple_content_types", "test_error_handling", "test_tool_with_progress",
    "test_tool_with_logging",
)  # fmt: skip
ASKING = {
    "legacy": ("test_elicitation", "test_sampling"),
    "2026-07-28": (
        "test_input_required_result_elicitation", "test_input_required_result_sampling",
        "test_input_required_result_multi_round", "test_input_required_result_multiple_inputs",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with staged(tmp_path_factory.mktemp("stage")) as made:
        yield made


async def story(url: str, mode: str) -> dict[str, Any]:
    """What one client sees of everything the fixture has, as plain data."""
    steps: list[Any] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        steps.append((done, total))

    async def logged(params: types.LoggingMessageNotificationParams) -> None:
        steps.append(params.data)

    async def elicited(_: Any, params: Any) -> types.ElicitResult:
        steps.append(params.message)
        asked = params.requested_schema["properties"]
        return types.ElicitResult(action="accept", content=dict.fromkeys(asked, "Ada"))

    async def sampled(_: Any, params: Any) -> types.CreateMessageResult:
        steps.append(params.messages[0].model_dump())
        said = types.TextContent(text="Paris")
        return types.CreateMessageResult(role="assistant", content=said, model="none")

    async def roots(_: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=[types.Root(uri="file:///srv", name="srv")])

    answers: dict[str, Any] = {}
    async with Client(
        url, mode=mode, logging_callback=logged, elicitation_callback=elicited,
        sampling_callback=sampled, list_roots_callback=roots,
    ) as client:  # fmt: skip
        for name in (*QUIET, *ASKING[mode]):
            arguments = {"prompt": "Say it", "message": "Who?"}
            answer = await client.call_tool(name, arguments, progress_callback=progress)
            answers[name] = answer.model_dump()
        for uri in ("test://static-text", "test://static-binary", "test://template/7/data"):
            answers[uri] = (await client.read_resource(uri)).model_dump()
        prompt = await client.get_prompt("test_prompt_with_arguments", {"arg1": "a", "arg2": "b"})
        tools = await client.list_tools()
        return {
            "answers": answers,
            "prompt": prompt.model_dump(),
            "prompts": [one.name for one in (await client.list_prompts()).prompts],
            "tools": [one.model_dump() for one in tools.tools],
            "steps": steps,
        }


@pytest.mark.parametrize("mode", list(ASKING))
async def test_the_python_sdk_sees_the_same_as_direct(stage: Stage, mode: str) -> None:
    direct, through = await story(stage.direct, mode), await story(stage.through, mode)
    assert through == direct
    # positive control: it was asked, it heard of progress, and a tool's error came through
    assert "Who?" in direct["steps"] or "What is your name?" in direct["steps"]
    assert (100, 100) in direct["steps"]
    assert direct["answers"]["test_error_handling"]["is_error"] is True


async def test_a_denied_tool_is_not_the_same_as_direct(stage: Stage) -> None:
    direct = await story(stage.direct, "2026-07-28")
    through = await story(stage.denying, "2026-07-28")
    differing = [n for n in direct["answers"] if direct["answers"][n] != through["answers"][n]]
    assert differing == ["test_image_content"]
    assert through["answers"]["test_image_content"]["is_error"] is True


@pytest.mark.parametrize("mode", list(ASKING))
async def test_c16_what_no_rule_lets_a_server_ask_reaches_no_client(
    stage: Stage, mode: str
) -> None:
    """The tools that ask end in an error their caller can read; all others answer as ever."""
    asked: list[str] = []

    async def elicited(_: Any, params: Any) -> types.ElicitResult:
        asked.append("elicitation")
        names = params.requested_schema["properties"]
        return types.ElicitResult(action="accept", content=dict.fromkeys(names, "Ada"))

    async def sampled(_: Any, params: Any) -> types.CreateMessageResult:
        asked.append("sampling")
        said = types.TextContent(text="Paris")
        return types.CreateMessageResult(role="assistant", content=said, model="none")

    async def roots(_: Any) -> types.ListRootsResult:
        asked.append("roots")
        return types.ListRootsResult(roots=[])

    async def failed(url: str) -> list[str]:
        """The tools that do not answer well."""
        found = []
        async with Client(
            url, mode=mode, elicitation_callback=elicited, sampling_callback=sampled,
            list_roots_callback=roots,
        ) as client:  # fmt: skip
            for name in ("test_simple_text", "test_tool_with_progress", *ASKING[mode]):
                try:
                    answer = await client.call_tool(name, {"prompt": "Say it", "message": "Who?"})
                except MCPError as error:
                    answer = types.CallToolResult(content=[], is_error=True)
                    assert "olicies" in str(error) or "policy" in str(error), error
                if answer.is_error:
                    found.append(name)
        return found

    assert await failed(stage.unasked) == list(ASKING[mode])
    assert asked == []
    assert await failed(stage.through) == [], "positive control"
    assert {"elicitation", "sampling"} <= set(asked)
    receipts = [one for one in stage.sidecar.receipts() if one["upstream"] == "unasked"]
    refused = {one["tool"] for one in receipts if one["kind"] == "refusal"}
    assert {"unasked/mcp:sampling/createMessage", "unasked/mcp:elicitation/create"} <= refused


def test_results_of_the_suite_are_compared_check_by_check(tmp_path: Path) -> None:
    def left(folder: str, *statuses: str) -> Path:
        for number, status in enumerate(statuses):
            place = tmp_path / folder / f"server-ping-{number}-2026-11-28T23-31-55-031Z"
            place.mkdir(parents=True)
            check = {"id": "ping", "name": "Ping", "status": status}
            (place / "checks.json").write_text(json.dumps([check, {**check, "status": "INFO"}]))
        return tmp_path / folder

    one = read_checks(left("one", "SUCCESS", "SUCCESS"))
    same = read_checks(left("same", "SUCCESS", "SUCCESS"))
    other = read_checks(left("other", "SUCCESS", "FAILURE"))
    assert differences(one, same) == []
    assert len(differences(one, other)) == 2
    assert figures(other) == {"scenarios": 2, "success": 1, "failure": 1}
