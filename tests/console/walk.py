"""The browser's side of the walk; runs where Playwright is. Speaks with full.py line by line: a
number asks it to let an agent ask for a refund of so much, `"answered"` for what became of that,
`"storm"` for calls that are refused, `"frozen"` for what another call gets; the last line is the
report.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

CONTROL, CHROMIUM, SIZE, ADMIN, VIEWER = sys.argv[1:6]
CONSOLE = f"{CONTROL}/console"
PICTURES = Path(__file__).resolve().parents[2] / "deploy" / "screenshots"
#: Pages whose pictures stand in the documentation.
KEPT = ("overview", "pending", "one-call", "one-incident", "policies")
#: Milliseconds for the overview's drawing to have some points.
LIVELY_MS = 6_500
SERIOUS = ("serious", "critical")
PAGES = (
    "", "/calls", "/approvals?state=any", "/agents", "/agents/coder", "/tools", "/policies",
    "/policies/shadow",
    "/receipts", "/receipts/1", "/changes", "/store", "/incidents", "/alerts", "/containments",
)  # fmt: skip
#: Colours and widths every page is looked at in.
LOOKS: tuple[tuple[str, Any, int, int], ...] = (
    ("light", "light", 1280, 900), ("dark", "dark", 1280, 900), ("phone", "light", 390, 844),
)  # fmt: skip

found: list[str] = []
timed: dict[str, float] = {}


def say(what: Any) -> None:
    print(json.dumps(what), flush=True)


def heard() -> Any:
    return json.loads(sys.stdin.readline())


def check(holds: bool, what: str) -> None:
    if not holds:
        found.append(what)


def opened(
    browser: Browser, look: tuple[str, Any, int, int], key: str
) -> tuple[BrowserContext, Page]:
    """A window in which somebody is signed in; whatever its console says is a violation."""
    name, scheme, width, height = look
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})
    page = context.new_page()
    page.on("pageerror", lambda error: found.append(f"{name}: {error}"))
    page.on("console", lambda said: check(said.type != "error", f"{name}: {said.text}"))
    page.goto(CONSOLE)
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(CONSOLE)
    return context, page


def walk(page: Page) -> None:
    """Signs in → a held call arrives → its arguments are read → approved → it goes through → its
    receipt verifies; a viewer has no say; a frozen agent is refused."""
    page.goto(f"{CONSOLE}/approvals")
    expect(page.get_by_text("Nothing waits for a yes.")).to_be_visible()
    say(120)
    waiting = page.get_by_role("link", name="shop/refund")
    expect(waiting).to_be_visible(timeout=10_000)
    waiting.click()
    arguments = page.get_by_label("Arguments")
    expect(arguments).to_contain_text('"amount": 120')
    expect(arguments).to_contain_text("broken <b>")
    expect(page.get_by_text("a refund of 120 asks a person")).to_be_visible()
    page.get_by_label("Why").first.fill("the customer called")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status")).to_contain_text("Your yes is on record.")
    say("answered")
    check(heard() == [200], "the held call did not go through once it was approved")
    page.reload()
    page.get_by_role("heading", name="Spent").locator("+ p a").click()
    expect(page.get_by_role("heading", name="Receipts")).to_be_visible()
    for number in range(page.get_by_role("button", name="Verify").count()):
        page.get_by_role("button", name="Verify").nth(number).click()
        expect(page.get_by_role("heading", name="It holds")).to_be_visible()
        page.get_by_role("link", name="Back").click()
    take_back(page)
    page.goto(f"{CONSOLE}/agents/coder")
    page.get_by_role("button", name="Freeze").click()
    expect(page.get_by_role("status")).to_contain_text("frozen")
    say("frozen")
    check(heard() == 403, "a frozen agent was not refused")
    page.get_by_role("button", name="Unfreeze").click()
    expect(page.get_by_role("status")).to_contain_text("may call again")
    page.goto(f"{CONSOLE}/calls")
    page.get_by_label("Decision").select_option("deny")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#calls tr").first).to_contain_text("deny")


def take_back(page: Page) -> None:
    """The next refund is shown against the one that was approved; the question is taken back, and
    the call that waits ends."""
    page.goto(f"{CONSOLE}/approvals")
    say(130)
    page.get_by_role("link", name="shop/refund").click(timeout=10_000)
    differences = page.get_by_label("Differences")
    expect(differences).to_contain_text("amount")
    expect(differences).to_contain_text("120")
    expect(differences).to_contain_text("130")
    page.get_by_role("button", name="Take the question back").click()
    expect(page.get_by_role("status")).to_contain_text("The question is taken back")
    say("answered")
    check(heard() == [403], "a call whose question was taken back did not end")


def incident(page: Page) -> None:
    """Refusals become an incident; it is verified, the agent is frozen from there and refused; the
    containment is undone and the incident closed."""
    page.goto(f"{CONSOLE}/incidents")
    say("storm")
    opened_one = page.get_by_role("link", name="refusals in")
    for _ in range(40):
        page.goto(f"{CONSOLE}/incidents")
        if opened_one.count():
            break
        page.wait_for_timeout(250)
    opened_one.first.click()
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_role("status")).to_contain_text("It holds")
    page.get_by_role("button", name="Freeze the agent for an hour").click()
    expect(page.get_by_role("status").first).to_contain_text("It is contained")
    say("frozen")
    check(heard() == 403, "an agent frozen from an incident was not refused")
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status").first).to_contain_text("The containment has ended")
    say("frozen")
    check(heard() == 200, "an agent whose freeze was undone was refused")
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("closed")


def noticed(browser: Browser) -> None:
    """Another storm, so that an incident stands open while pages are looked at."""
    context, page = opened(browser, LOOKS[0], ADMIN)
    say("storm")
    for _ in range(40):
        page.goto(f"{CONSOLE}/incidents?status=open")
        if page.locator("article").count():
            break
        page.wait_for_timeout(250)
    check(page.locator("article").count() == 1, "a storm after the first was not noticed")
    context.close()


def shadow(page: Page) -> None:
    """A rule in shadow and what it would change: from its page to a call that would be refused."""
    page.goto(f"{CONSOLE}/policies")
    rules = page.get_by_role("group", name="Rules in shadow")
    expect(rules).to_contain_text("aegis-sidecar policy promote shop/only-known-orders")
    calls = page.get_by_role("group", name="Calls that would be decided otherwise")
    expect(calls.get_by_role("row").nth(1)).to_contain_text("shop/only-known-orders")
    calls.get_by_role("row").nth(1).get_by_role("link").last.click()
    told = page.get_by_text("With the rules in shadow").locator("+ dd")
    expect(told).to_have_text("deny")


def without_a_script(browser: Browser) -> None:
    """Signing in, deciding and filtering need none."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{CONSOLE}/calls")
    page.get_by_label("Your key").fill(ADMIN)
    page.get_by_role("button", name="Sign in").click()
    check(page.url == f"{CONSOLE}/calls", "without a script signing in leads elsewhere")
    page.goto(f"{CONSOLE}/agents/coder")
    page.get_by_role("button", name="Freeze").click()
    expect(page.get_by_role("status")).to_contain_text("frozen")
    page.get_by_role("button", name="Unfreeze").click()
    context.close()


def as_a_viewer(browser: Browser) -> None:
    """Looks, and has no form that changes anything."""
    context, page = opened(browser, LOOKS[0], VIEWER)
    for path in PAGES:
        page.goto(CONSOLE + path)
        buttons = [one.inner_text() for one in page.get_by_role("main").get_by_role("button").all()]
        check(set(buttons) <= {"Filter", "Explain", "Verify"}, f"a viewer has {buttons} on {path}")
    context.close()


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
    page.get_by_role("link", name="shop/refund").click(timeout=10_000)
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    looked_at(page, "/approvals/one that waits", look_name, "pending")
    page.get_by_role("button", name="Take the question back").click()
    say("answered")
    check(heard() == [403], "a call whose question was taken back did not end")


def planted(browser: Browser) -> None:
    """What `look` would find: a picture without words, text that can hardly be read, and something
    wider than the window."""
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


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
        )
        context, page = opened(browser, LOOKS[0], ADMIN)
        walk(page)
        incident(page)
        shadow(page)
        context.close()
        without_a_script(browser)
        as_a_viewer(browser)
        planted(browser)
        noticed(browser)
        for one in LOOKS if SIZE == "default" else LOOKS[:1]:
            look(browser, one)
        version = browser.version
        browser.close()
    say({"browser": f"Chromium {version}", "pages": len(PAGES) + 4, "violations": found})


main()
