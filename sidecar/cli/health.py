"""`aegis-sidecar health`: exit 0 if /readyz says ready. For the health checks of containers."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import urllib.parse

from sidecar.cli.control_client import SOCKET_NAME, Unreachable, ask_at, load_configuration
from sidecar.cli.os_error_text import os_error_text
from sidecar.verifying_tls import verifying_context

NAME = "health"
HELP = "exit 0 if the sidecar is ready to serve, else 1"

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not bound to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the control listener is."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)",
    )
    parser.add_argument("--url", help="base URL of the control listener, instead of --config's")
    parser.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS", help="default: 3")


def run(args: argparse.Namespace) -> int:
    """0 ready, 1 not ready or no answer, 2 for wrong usage."""
    try:
        reasons = _asked_at(args) if args.url else _own_reasons(args)
    except Unreachable as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if not reasons:
        print("ready")
        return 0
    print(f"not ready: {'; '.join(reasons)}", file=sys.stderr)
    return 1


def _own_reasons(args: argparse.Namespace) -> list[str]:
    """Why the sidecar of the configuration is not ready. One that speaks TLS is asked over
    control.sock: its certificate is for other names than the address it is asked at here."""
    config = load_configuration(args, "or name the control listener with --url")
    control = config.listen.control
    if control.tls is not None:
        where = config.data_dir / SOCKET_NAME
        try:
            return list(ask_at(where, "GET", "/status", wait_s=args.timeout)["not_ready"])
        except Unreachable as error:
            if not error.is_absent:
                raise
            said = f"no sidecar answers at {where}: start it, or ask another with --url"
            raise Unreachable(said) from error
    host = _ANY_ADDRESS.get(control.host, control.host)
    return _reasons(http.client.HTTPConnection(host, control.port, timeout=args.timeout))


def _asked_at(args: argparse.Namespace) -> list[str]:
    try:
        url = urllib.parse.urlsplit(args.url)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise Unreachable(f"--url is no URL: {error}", 2) from error
    if url.scheme not in ("http", "https") or host is None:
        raise Unreachable("--url is http://HOST:PORT or https://HOST:PORT", 2)
    if url.scheme == "http":
        return _reasons(http.client.HTTPConnection(host, port or 80, timeout=args.timeout))
    context = verifying_context()
    return _reasons(
        http.client.HTTPSConnection(host, port or 443, timeout=args.timeout, context=context)
    )


def _reasons(connection: http.client.HTTPConnection) -> list[str]:
    """Why it is not ready; empty if it is. Raises Unreachable if there is no answer."""
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        said = os_error_text(error)
        raise Unreachable(f"no answer from {connection.host}:{connection.port}: {said}") from error
    finally:
        connection.close()
    if response.status == http.client.OK:
        return []
    return list(answer.get("reasons") or [answer.get("title", str(response.status))])
