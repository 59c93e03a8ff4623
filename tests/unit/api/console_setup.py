"""A browser without a script at the console of api_setup.py, and every page there is."""

from __future__ import annotations

import re

from aiohttp import ClientSession, CookieJar
from api_setup import Served, key_of
from yarl import URL

from sidecar.control.console.htmx import VARY
from sidecar.control.console.table import PAGES

#: Every page of a tenant, by what it has.
PATHS = {
    **{page.path: page.path for page in PAGES if "{" not in page.path},
    "/calls/{call_id}": "/calls/{call_id}",
    "/approvals/{approval_id}": "/approvals/{approval_id}",
    "/agents/{agent_id}": "/agents/{agent_id}",
    "/incidents/{incident_id}": "/incidents/{incident_id}?verify=true",
    "/receipts/{seq}": "/receipts/1",
    "/policies/file": "/policies/file?file=policies/catalogue.yaml",
}


async def notice(served: Served) -> None:
    """An incident of each tenant."""
    for tenant in ("acme", "rival"):
        await served.recorder.notice(tenant)


class Browser:
    """What a browser does: keeps a cookie, follows, names its Origin with a form."""

    def __init__(self, served: Served, client: ClientSession) -> None:
        self.url, self.client = served.url, client
        self.csrf = ""

    async def open(self, path: str, **headers: str) -> tuple[int, str]:
        """The page a path ends at."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = URL(self.url + "/console" + path, encoded=True)
        async with self.client.get(url, headers=named) as answer:
            text = await answer.text()
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Vary"] == VARY
            found = re.search('name="csrf" value="([^"]+)"', text)
            self.csrf = found[1] if found else ""
            return answer.status, text

    async def send(self, path: str, fields: dict[str, str], **headers: str) -> tuple[int, str, str]:
        """Status, text and where a form leads."""
        named = {"Origin": self.url} | {k.replace("_", "-"): v for k, v in headers.items()}
        named = {name: value for name, value in named.items() if value}
        async with self.client.post(
            f"{self.url}/console{path}", data=fields, headers=named, allow_redirects=False
        ) as answer:
            return answer.status, await answer.text(), answer.headers.get("Location", "")

    async def sign_in(self, tenant: str = "acme", role: str = "admin") -> Browser:
        """As the person of a tenant with a role."""
        status, _, there = await self.send("/sign-in", {"key": key_of(tenant, role)})
        assert (status, there) == (303, "/console")
        await self.open("/agents")
        return self


def browser(served: Served) -> Browser:
    """One more, with cookies of its own."""
    return Browser(served, ClientSession(cookie_jar=CookieJar(unsafe=True)))
