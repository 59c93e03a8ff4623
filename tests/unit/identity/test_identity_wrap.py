"""The one agent of a wrapped server: whoever starts it, and nobody who would have to be guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from identity_setup import TENANTS, configured

from sidecar.errors import StartRefused
from sidecar.wrap.running import _of_one_agent

ONE = "tenants: {acme: {agents: {coder: {token: {file: coder.txt}}}}}\n"


def test_the_only_agent_needs_no_token_on_a_pipe(tmp_path: Path) -> None:
    config = configured(tmp_path, ONE)
    assert config.default_agent is None
    assert _of_one_agent(config).default_agent == ("acme", "coder")


def test_the_one_that_is_named_stays(tmp_path: Path) -> None:
    config = configured(tmp_path, f"{TENANTS}identity: {{default_agent: acme/tester}}\n")
    assert _of_one_agent(config) is config


def test_of_several_none_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(StartRefused, match=r"identity\.default_agent=acme/coder"):
        _of_one_agent(configured(tmp_path, TENANTS))
