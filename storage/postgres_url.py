"""What a PostgreSQL URL says: its servers one by one, and whether the way to them is protected.

Knows: the form of such a URL, as asyncpg reads it, and what each `sslmode` promises.
Must not know: how a connection is made, or that a password may stand in it: none is repeated.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

#: With these a connection is either encrypted or refused.
ENCRYPTED = ("require", "verify-ca", "verify-full")
#: With these the server's certificate is checked too.
VERIFIED = ("verify-ca", "verify-full")
SSLMODES = ("disable", "allow", "prefer", *ENCRYPTED)
#: What may be asked for as the least or the latest version of TLS: those before are broken, and
#: the driver would take them.
TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
_TLS_PARAMETERS = ("ssl_min_protocol_version", "ssl_max_protocol_version")
#: Which server of several may be asked for. The sidecar writes: it always wants the primary.
SESSION_ATTRIBUTES = ("any", "primary", "read-write")

_HOW = "write ?sslmode=verify-full&sslrootcert=/path/of/ca.pem"


class Server(NamedTuple):
    """One of the servers a URL names: host and port for people, the URL that names it alone, and
    whether the way to it stays on this machine."""

    shown: str
    url: str
    is_local: bool


def parameters_of(url: str) -> dict[str, str]:
    """What follows the `?`; of a name that stands there twice, the last. Raises ValueError."""
    query = url.partition("#")[0].partition("?")[2]
    if not query:
        return {}
    try:
        found = parse_qs(query, strict_parsing=True, keep_blank_values=True)
    except ValueError:
        raise ValueError("what follows ? is not NAME=VALUE, joined by &") from None
    return {name: values[-1] for name, values in found.items()}


def servers_of(url: str) -> list[Server]:
    """Every server the URL names, in its order."""
    scheme, _, rest = url.partition("://")
    place, question, query = rest.partition("?")
    place, slash, database = place.partition("/")
    user, at, hosts = place.partition("@")
    if not at:
        user, hosts = "", place
    return [
        Server(host.rpartition("@")[2], f"{scheme}://{user}{at}{host}{slash}{database}{question}{query}",
               _is_local(host))
        for host in hosts.split(",")
    ]  # fmt: skip


def link_problem(url: str) -> str:
    """Why records and password must not be sent over the way this URL describes, and what to
    write instead; "" if they may. Without `sslmode`, and with `prefer` or `allow`, the driver
    would silently go on in the clear when the server, or somebody before it, offers no TLS."""
    try:
        parameters = parameters_of(url)
    except ValueError as error:
        return str(error)
    if problem := division_problem(url):
        return problem
    mode = parameters.get("sslmode", "")
    if mode and mode not in SSLMODES:
        return f"sslmode={mode} is none of {', '.join(SSLMODES)}"
    for name in _TLS_PARAMETERS:
        version = parameters.get(name, TLS_VERSIONS[0])
        if version not in TLS_VERSIONS:
            return f"{name}={version} is none of {', '.join(TLS_VERSIONS)}"
    attributes = parameters.get("target_session_attrs", "any")
    if attributes not in SESSION_ATTRIBUTES:
        return f"target_session_attrs={attributes} does not find the primary: leave it out"
    if mode == "disable" or mode in ENCRYPTED:
        return ""
    far = [server.shown for server in servers_of(url) if not server.is_local]
    if not far:
        return ""
    said = f"with sslmode={mode}" if mode else "without sslmode"
    return (
        f"{said} the link to {', '.join(far)} may be in the clear: {_HOW} "
        "(or sslmode=disable, if the network itself is private)"
    )


def division_problem(url: str) -> str:
    """That a sign which divides a URL stands in a name or a password as it is, and how to write it;
    "" if none does. Half of a password would be taken for a host, and be named as one."""
    rest = url.partition("://")[2]
    place, _, database = rest.partition("?")[0].partition("/")
    _, at, hosts = place.partition("@")
    if "#" in rest or "@" in hosts or "@" in database or ("@" in rest and not at):
        return "an @ in a name or password is written %40, a / %2F, a ? %3F, a # is written %23"
    return ""


def link_warning(url: str) -> str:
    """What the operator should know of a link that may be used; "" if there is nothing to say."""
    far = [server.shown for server in servers_of(url) if not server.is_local]
    if not far:
        return ""
    parameters = parameters_of(url)
    mode, names = parameters.get("sslmode", ""), ", ".join(far)
    if mode == "disable":
        return f"the link to {names} is in the clear, records and password with it: {_HOW}"
    if mode == "require" and "sslrootcert" not in parameters:
        return f"the link to {names} is encrypted, but anybody may answer there: {_HOW}"
    return ""


def _is_local(host: str) -> bool:
    """Whether `host[:port]` is this machine: a socket's folder, localhost, a loopback address."""
    bracketed = re.match(r"\[([^]]*)\]", host)
    name = bracketed[1] if bracketed else unquote(host.partition(":")[0])
    if name.startswith(("/", "@")) or name.lower() in ("", "localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False
