"""Every page in every look: what axe finds serious, what is too wide, where Tab leads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect
from window import (
    ADMIN,
    CONSOLE,
    LOOKS,
    PAGES,
    PLANTED,
    SIZE,
    check,
    found,
    heard,
    opened,
    say,
    signed_in,
    watched,
)

PICTURES = Path(__file__).resolve().parents[2] / "deploy" / "screenshots"
#: Pages whose pictures stand in the documentation.
KEPT = ("overview", "pending", "one-call", "one-incident", "policies")
#: Milliseconds for the overview's drawing to have some points.
LIVELY_MS = 6_500
SERIOUS = ("serious", "critical")


def look(browser: Browser, one: tuple[str, Any, int, int]) -> None:
    """Every page: axe finds nothing serious, nothing is wider than the window, all can be reached
    by the keyboard's Tab alone."""
    context, page = opened(browser, one, ADMIN)
    pending(page, one[0])
    paths = list(PAGES)
    for list_path, link in (
        ("/approvals?state=any", "article a"),
        ("/calls", "#calls code"),
        ("/incidents", "article a"),
        ("/policies", "#shadow td a"),
    ):
        page.goto(CONSOLE + list_path)
        page.locator(link).first.click()
        paths.append(page.url.removeprefix(CONSOLE).partition("#")[0])
    for path in paths:
        page.goto(CONSOLE + path)
        page.wait_for_timeout(LIVELY_MS if path == "" else 300)
        name = (path.split("?")[0].strip("/") or "overview").split("/")
        named = name[0] if len(name) == 1 else f"one-{name[0].removesuffix('s')}"
        looked_at(page, path, one[0], named)
    context.close()


def looked_at(page: Page, path: str, look_name: str, picture: str) -> None:
    """One page as it stands there, and its picture if that is kept."""
    where = f"{look_name} {path}"
    if SIZE == "default" and picture in KEPT:
        PICTURES.mkdir(exist_ok=True)
        page.screenshot(path=PICTURES / f"{picture}-{look_name}.png")
    for problem in Axe().run(page).response["violations"]:
        if problem["impact"] in SERIOUS:
            nodes = [node["html"][:150] for node in problem["nodes"][:2]]
            found.append(f"{where}: {problem['id']}: {nodes}")
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    check(wide <= 0, f"{where}: {wide} px wider than the window")
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.textContent.trim()")
    check(first == "To the content", f"{where}: Tab leads to {first!r} first")


def pending(page: Page, look_name: str) -> None:
    """An approval while it waits for an answer, and then is not waited for any more."""
    page.goto(f"{CONSOLE}/approvals")
    say(140)
    asked = page.get_by_role("link", name="shop/refund")
    expect(asked).to_be_visible(timeout=10_000)
    looked_at(page, "/approvals where one waits", look_name, "inbox")
    asked.click()
    page.wait_for_url(re.compile("/approvals/."))
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    looked_at(page, "/approvals/one that waits", look_name, "pending")
    page.get_by_role("button", name="Take the question back").click()
    say("answered")
    check(heard() == [403], "a call whose question was taken back did not end")


def planted(browser: Browser) -> None:
    """What `look` would find: a picture without words, text that can hardly be read, something
    wider than the window; and what a page may not do: run what stands in it, or be styled by it,
    ask for what an agent wrote."""
    context, page = opened(browser, LOOKS[0], ADMIN)
    page.evaluate(
        """() => {
            const made = document.createElement("div");
            made.innerHTML = "<img src='/console/static/icon.svg'><p id='pale'>hardly there</p>";
            document.getElementById("main").append(made);
            document.getElementById("pale").style.color = "#dddddd";
            made.style.width = "3000px";
        }"""
    )
    told = {one["id"] for one in Axe().run(page).response["violations"] if one["impact"] in SERIOUS}
    check({"image-alt", "color-contrast"} <= told, f"planted faults were not found: {told}")
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    check(wide > 0, "a planted width was not found")
    context.close()
    context = browser.new_context()
    page, said = context.new_page(), list[str]()
    watched(page, "planted", said)
    signed_in(page, ADMIN)
    page.evaluate(
        """(path) => {
            const made = document.createElement("script");
            made.textContent = "window.was_run = true";
            document.body.append(made);
            document.body.setAttribute("style", "color: red");
            fetch(path);
        }""",
        PLANTED,
    )
    page.wait_for_timeout(300)
    for word in ("script-src", "style-src", PLANTED):
        check(any(word in one for one in said), f"a planted violation was not found: {word}")
    check(page.evaluate("window.was_run") is None, "a script that stands in a page was run")
    context.close()
