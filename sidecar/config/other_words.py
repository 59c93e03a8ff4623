"""Keys of sidecar.yaml by the names and places that they have elsewhere: what is meant by them.

Knows: what people write who guess. `agents` is near to `tenants`, and stands in one.
Must not know: which keys there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Hints = Mapping[str, str]


def _all(hint: str, *words: str) -> dict[str, str]:
    return dict.fromkeys(words, hint)


_ADDRESS: Final = "addresses stand under `listen`: {data: 127.0.0.1:8080, control: 127.0.0.1:8081}"

AT_TOP: Final[Hints] = {
    **_all(
        "agents stand in a tenant: tenants: {default: {agents: {NAME: {…}}}}", "agents", "agent"
    ),
    **_all(
        "people stand in a tenant: tenants: {default: {people: {NAME: {…}}}}",
        "people",
        "users",
        "approvers",
    ),
    **_all(_ADDRESS, "port", "host", "address", "bind", "server"),
    **_all("rules stand in files of their own, which `policies` names", "policy", "rules"),
    **_all('did you mean "upstreams"?', "servers", "mcpServers", "services", "targets", "tools"),
    **_all('did you mean "store"?', "database", "db", "storage"),
    **_all('did you mean "sinks"?', "webhooks", "notifications", "alerts"),
    **_all('did you mean "soc"?', "detections", "incidents"),
    **_all(
        "the log goes to standard error, as lines of JSON, and has no setting",
        "log",
        "logs",
        "logging",
        "log_level",
    ),
    **_all("the file says no version: leave it out", "version", "apiVersion"),
}
IN_LISTEN: Final[Hints] = {
    **_all(_ADDRESS, "port", "host", "address"),
    **_all('did you mean "data"?', "proxy", "agents"),
    **_all('did you mean "control"?', "admin", "metrics", "api"),
}
IN_AN_UPSTREAM: Final[Hints] = {
    **_all('did you mean "kind"?', "type", "protocol", "transport"),
    **_all('did you mean "url"?', "address", "base_url", "baseUrl", "endpoint", "target", "host"),
    **_all(
        "credentials stand under `auth`: {bearer: {env: NAME}}",
        "token",
        "bearer",
        "headers",
        "header",
        "credential",
        "api_key",
        "apiKey",
    ),
    **_all(
        "a local server is wrapped: `aegis-sidecar wrap --name NAME -- COMMAND`",
        "command",
        "args",
        "env",
    ),
    **_all("what a tool is, stands in a catalogue beside the policies", "tools", "routes"),
}
IN_AUTH: Final[Hints] = {
    **_all('did you mean "bearer"?', "token", "jwt", "oauth"),
    **_all('did you mean "header"?', "headers", "api_key", "apiKey"),
    **_all('did you mean "basic"?', "user", "username", "password"),
}
