"""`aegis-sidecar health`: exit 0 if /readyz says ready. For the health checks of containers."""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import urllib.parse

from sidecar.cli.control_client import Unreachable, load_configuration

NAME = "health"
HELP = "exit 0 if the sidecar is ready to serve, else 1"

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - looked up, not bound to


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the control listener is."""
    parser.add_argument(
        "--config", help="path of sidecar.yaml (default: AEGIS_CONFIG, ./sidecar.yaml)"
    )
    parser.add_argument("--url", help="base URL of the control listener, instead of --config's")
    parser.add_argument("--timeout", type=float, default=3.0, metavar="SECONDS", help="default: 3")


def run(args: argparse.Namespace) -> int:
    """0 ready, 1 not ready or no answer, 2 for wrong usage."""
    try:
        host, port = _address(args)
    except Unreachable as error:
        print(error, file=sys.stderr)
        return error.exit_code
    connection = http.client.HTTPConnection(host, port, timeout=args.timeout)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        print(f"no answer from {host}:{port}: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if response.status == http.client.OK:
        print("ready")
        return 0
    reasons = answer.get("reasons") or [answer.get("title", str(response.status))]
    print(f"not ready: {'; '.join(reasons)}", file=sys.stderr)
    return 1


def _address(args: argparse.Namespace) -> tuple[str, int]:
    if not args.url:
        control = load_configuration(args).listen.control
        return _ANY_ADDRESS.get(control.host, control.host), control.port
    try:
        url = urllib.parse.urlsplit(args.url)
        host, port = url.hostname, url.port or 80
    except ValueError as error:
        raise Unreachable(f"--url is no URL: {error}", 2) from error
    if url.scheme != "http" or host is None:
        raise Unreachable("--url is http://HOST:PORT", 2)
    return host, port
