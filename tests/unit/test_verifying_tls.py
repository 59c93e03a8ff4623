from __future__ import annotations

import ssl

import pytest
from certificates import Authority

from sidecar.config.upstream_tls import ClientMaterial, client_context
from sidecar.verifying_tls import verifying_context

_NEWER = ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN


def test_what_newer_pythons_ask_for_besides_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_this_python = ssl.create_default_context

    def of_python_3_13(*, cadata: str | None = None) -> ssl.SSLContext:
        context = of_this_python(cadata=cadata)
        context.verify_flags |= _NEWER
        return context

    monkeypatch.setattr(ssl, "create_default_context", of_python_3_13)
    authority = Authority().pem
    for context in (
        verifying_context(),
        verifying_context(authority.decode()),
        client_context(ClientMaterial(ca=authority)),
    ):
        assert not context.verify_flags & _NEWER
        assert context.verify_flags & ssl.VERIFY_X509_TRUSTED_FIRST, "OpenSSL's own stay"
        assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
