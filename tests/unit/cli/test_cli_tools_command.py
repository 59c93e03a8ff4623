"""`tools import` as a command: files, exit codes, what it prints where."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli import policy_check, tools, tools_import
from sidecar.cli.tools_import import ImportFailed, Listing

CONFIG = """
policies: [./policies]
upstreams:
  files:
    url: http://127.0.0.1:3001/mcp
    kind: mcp
    auth: {bearer: {env: FILES_KEY}}
  shop: {url: "http://127.0.0.1:3003"}
  local: {url: stdio, kind: mcp}
  shell: {kind: authorize}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policies").mkdir()
    monkeypatch.setenv("FILES_KEY", "canary-key")
    file = tmp_path / "sidecar.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, str]]]:
    """Stands for the network only: what was asked of it, and one answer."""
    seen: list[tuple[str, dict[str, str]]] = []

    def answer(url: str, headers: dict[str, str], query: str) -> Listing:
        seen.append((f"{url}{query}", headers))
        tool = {"name": "read_note", "inputSchema": {"type": "object", "properties": {}}}
        return Listing([tool, {"name": "no good"}], "2025-11-25", "demo")

    monkeypatch.setattr(tools_import, "run_list_tools", answer)
    return seen


def run(*arguments: Any) -> int:
    parser = argparse.ArgumentParser()
    tools.add_arguments(parser)
    return tools.run(parser.parse_args(["import", *map(str, arguments)]))


def test_the_catalogue_is_printed(
    config: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--upstream", "files", "--config", config) == 0
    output, errors = capsys.readouterr()
    assert "catalogue: files\n" in output and "  read_note:\n" in output
    assert "no good" in errors and "canary-key" not in output + errors
    assert asked == [("http://127.0.0.1:3001/mcp", {"Authorization": "Bearer canary-key"})]


def test_the_query_of_the_address_is_asked_with(config: Path, asked: list[Any]) -> None:
    query = "    query: {tenant: acme, key: {env: FILES_KEY}}\n"
    config.write_text(CONFIG.replace("    auth:", f"{query}    auth:", 1))
    assert run("--upstream", "files", "--config", config) == 0
    assert [url for url, _ in asked] == ["http://127.0.0.1:3001/mcptenant=acme&key=canary-key"]


def test_the_catalogue_is_written_and_never_overwritten_unasked(
    config: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    output = config.parent / "policies" / "files.yaml"
    arguments = ("--upstream", "files", "--config", config, "--output", output)
    assert run(*arguments) == 0
    first = output.read_text()
    assert "catalogue: files\n" in first and "1 tool written" in capsys.readouterr().out
    output.write_text("mine")
    assert run(*arguments) == 2
    assert output.read_text() == "mine" and "--force" in capsys.readouterr().err
    assert run(*arguments, "--force") == 0
    assert output.read_text() == first
    assert [path.name for path in output.parent.iterdir()] == ["files.yaml"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shop", "name an OpenAPI document"),
        ("fils", "it has: files, local, shell, shop"),
        ("local", "wrap --name local --import-tools"),
    ],
)
def test_an_upstream_that_cannot_be_asked_is_named(
    config: Path, asked: list[Any], capsys: pytest.CaptureFixture[str], name: str, message: str
) -> None:
    assert run("--upstream", name, "--config", config) == 2
    assert message in capsys.readouterr().err and asked == []


def test_a_configuration_with_problems_is_told(
    config: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(CONFIG + "upstream: {}\n")
    assert run("--upstream", "files", "--config", config) == 2
    assert "sidecar.yaml:" in capsys.readouterr().err and asked == []


def test_a_folder_that_is_not_there_is_told(
    config: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    output = config.parent / "missing" / "files.yaml"
    assert run("--upstream", "files", "--config", config, "--output", output) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_server_that_fails_is_exit_code_1(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(url: str, headers: dict[str, str], query: str) -> Listing:
        raise ImportFailed("it answered with HTTP 401")

    monkeypatch.setattr(tools_import, "run_list_tools", fail)
    assert run("--upstream", "files", "--config", config) == 1
    assert "HTTP 401" in capsys.readouterr().err


def test_an_upstream_needs_only_its_own_secret(
    config: Path,
    asked: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    others = (
        CONFIG
        + """  other: {url: "http://127.0.0.1:3004/mcp", kind: mcp, auth: {bearer: {env: NOT_SET}}}
store: {env: NOT_SET_EITHER}
"""
    )
    config.write_text(others)
    assert run("--upstream", "files", "--config", config) == 0
    assert len(asked) == 1 and "NOT_SET" not in capsys.readouterr().err
    assert run("--upstream", "other", "--config", config) == 2
    assert "NOT_SET is not set" in capsys.readouterr().err and len(asked) == 1
    config.write_text(others.replace("auth: {bearer: {env: NOT_SET}}", "auht: {}"))
    assert run("--upstream", "other", "--config", config) == 2
    assert '"auht" is not a key' in capsys.readouterr().err and len(asked) == 1
    monkeypatch.delenv("FILES_KEY")
    assert run("--upstream", "files", "--config", config) == 2
    assert "FILES_KEY is not set" in capsys.readouterr().err and len(asked) == 1


DOCUMENT = """
openapi: 3.0.3
info: {title: shop, version: "1"}
servers: [{url: "https://x.example/v1\\e[2J"}]
paths:
  /orders/{id}:
    get: {operationId: getOrder}
"""


def test_a_document_is_imported_without_any_secret_and_passes_policy_check(
    config: Path, asked: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.delenv("FILES_KEY")
    document = config.parent / "openapi.yaml"
    document.write_text(DOCUMENT)
    output = config.parent / "policies" / "shop.yaml"
    arguments = (document, "--upstream", "shop", "--config", config, "--output", output)
    assert run(*arguments) == 0
    told = capsys.readouterr()
    assert "1 tool written" in told.out and "1 operation; 0 left out" in told.err
    assert "paths are below https://x.example/v1" in told.err and "\x1b" not in told.err
    assert asked == []
    checking = argparse.ArgumentParser()
    policy_check.add_arguments(checking)
    checked = policy_check.run(checking.parse_args([str(output), "--config", str(config)]))
    assert checked == 0, capsys.readouterr()


@pytest.mark.parametrize(
    ("upstream", "text", "code", "message"),
    [
        ("files", DOCUMENT, 2, "leave the document out"),
        ("shop", None, 2, "cannot be read"),
        ("shop", "swagger: '2.0'", 1, "not an OpenAPI 3.0 or 3.1 document"),
        ("shop", '{"openapi": "3.0.0", "\\u001b[2J": 1, "\\u001b[2J": 1}', 1, "is here twice"),
    ],
)
def test_a_document_that_cannot_be_used_is_told_in_plain_text(
    config: Path, capsys: Any, upstream: str, text: str | None, code: int, message: str
) -> None:
    document = config.parent / "openapi.yaml"
    if text is not None:
        document.write_text(text)
    assert run(document, "--upstream", upstream, "--config", config) == code
    told = capsys.readouterr()
    assert message in told.err and "\x1b" not in told.err and told.out == ""


def test_the_configuration_is_found_as_other_commands_find_it(
    config: Path,
    asked: list[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("AEGIS_CONFIG", raising=False)
    assert run("--upstream", "files") == 2
    monkeypatch.setenv("AEGIS_CONFIG", str(config))
    assert run("--upstream", "files") == 0
    assert "catalogue: files\n" in capsys.readouterr().out


@pytest.mark.parametrize("document", [[], ["openapi.yaml"]])
def test_of_tools_that_ask_nothing_is_imported_and_the_next_step_is_said(
    config: Path, document: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*document, "--upstream", "shell", "--config", config) == 2
    said = capsys.readouterr().err
    assert "upstream shell is of kind authorize: no server lists its tools" in said
    assert "Write its catalogue yourself" in said
