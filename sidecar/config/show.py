"""The effective configuration as people and programs read it: value and origin of each setting.

Must not say: a secret; it stands as ***.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sidecar.config.identity import every_agent
from sidecar.config.model import Config
from sidecar.config.settings import effective


def show_text(config: Config, origins: Mapping[str, str]) -> str:
    """A line for each setting: key, value, origin."""
    rows = [(key, _text(value), origins[key]) for key, value in effective(config)]
    key_width = max(len(key) for key, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    return "".join(
        f"{key:<{key_width}}  {value:<{value_width}}  {origin}\n" for key, value, origin in rows
    )


def show_json(config: Config, origins: Mapping[str, str]) -> str:
    """One JSON object: dotted key to `{"value": …, "origin": …}`."""
    settings = {key: {"value": value, "origin": origins[key]} for key, value in effective(config)}
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def who_may_call(config: Config) -> list[str]:
    """A line for each agent: by what it is known. Those that are registered while the sidecar runs
    are told by `agents list`."""
    lines = []
    for (tenant, name), agent in every_agent(config.tenants):
        ways = [
            *(["token"] if agent.token is not None else ()),
            *([f"certificate {agent.mtls}"] if agent.mtls else ()),
            *([f"signed token of {agent.jwt}"] if agent.jwt else ()),
            *(["no credential at all"] if config.default_agent == (tenant, name) else ()),
        ]
        lines.append(f"{tenant}/{name} calls with: {', or '.join(ways) or 'nothing yet'}")
    return lines


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return str(value) if value != "" else '""'
