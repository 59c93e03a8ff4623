"""What the parts of the walk share: a window, what is found wrong, words with full.py.

Speaks with full.py line by line: a number asks it to let an agent ask for a refund of so much,
`"answered"` for what became of that, `"storm"` for calls that are refused, `"call"` for what one
more call gets; the last line is the report.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

CONTROL, CHROMIUM, SIZE, ADMIN, VIEWER = sys.argv[1:6]
CONSOLE = f"{CONTROL}/console"
#: Colours and widths every page is looked at in.
LOOKS: tuple[tuple[str, Any, int, int], ...] = (
    ("light", "light", 1280, 900), ("dark", "dark", 1280, 900), ("phone", "light", 390, 844),
)  # fmt: skip
PAGES = (
    "", "/calls", "/approvals?state=any", "/agents", "/agents/coder", "/tools", "/policies",
    "/policies/shadow",
    "/receipts", "/receipts/1", "/changes", "/store", "/incidents", "/alerts", "/containments",
)  # fmt: skip
#: What the agent's arguments would have htmx fetch, if they were taken for a page's own.
PLANTED = "/console/planted"
#: What the policy of contents refuses is said by the browser itself.
_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
    console.error(`policy of contents: ${event.violatedDirective} ${event.blockedURI}`);
});
"""

found: list[str] = []


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


def heard() -> Any:
    return json.loads(sys.stdin.readline())


def check(holds: bool, what: str) -> None:
    if not holds:
        found.append(what)


def watched(page: Page, name: str, into: list[str], expected: tuple[str, ...] = ()) -> None:
    """Whatever the page's console says is wrong, but what has one of the expected words in it; and
    what it asks for because an agent wrote so."""

    def note(text: str) -> None:
        if not any(word in text for word in expected):
            into.append(f"{name}: {text}")

    page.add_init_script(_VIOLATIONS)
    page.on("pageerror", lambda error: note(str(error)))
    page.on("console", lambda said: note(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: note(asked.url) if PLANTED in asked.url else None)


def told(page: Page) -> Locator:
    """What is said of what was done last."""
    return page.locator("#notice")


def frozen_from_its_page(page: Page) -> None:
    """The agent is frozen, refused, and may call again."""
    page.goto(f"{CONSOLE}/agents/coder")
    page.get_by_role("button", name="Freeze").click()
    expect(told(page)).to_contain_text("frozen")
    say("call")
    check(heard() == 403, "a frozen agent was not refused")
    page.get_by_role("button", name="Unfreeze").click()
    expect(told(page)).to_contain_text("may call again")


def signed_in(page: Page, key: str) -> None:
    page.goto(CONSOLE)
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(CONSOLE)


def opened(
    browser: Browser, look: tuple[str, Any, int, int], key: str, expected: tuple[str, ...] = ()
) -> tuple[BrowserContext, Page]:
    """A window in which somebody is signed in; whatever its console says is a violation."""
    name, scheme, width, height = look
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    page = context.new_page()
    watched(page, name, found, expected)
    signed_in(page, key)
    return context, page
