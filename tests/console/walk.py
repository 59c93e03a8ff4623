"""The browser's side of the walk; runs where Playwright is, and tells full.py what it found."""

from __future__ import annotations

from in_place import in_place
from looking import look, planted
from playwright.sync_api import Browser, Page, expect, sync_playwright
from unscripted import without_a_script
from window import (
    ADMIN,
    CHROMIUM,
    CONSOLE,
    CONTROL,
    LOOKS,
    PAGES,
    SIZE,
    VIEWER,
    check,
    found,
    frozen_from_its_page,
    heard,
    opened,
    say,
    told,
)


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
    expect(told(page)).to_contain_text("Your yes is on record.")
    say("answered")
    check(heard() == [200], "the held call did not go through once it was approved")
    page.reload()
    page.get_by_role("heading", name="Spent").locator("+ p a").click()
    expect(page.get_by_role("heading", name="Receipts")).to_be_visible()
    rows = page.get_by_role("row").filter(has=page.get_by_role("button", name="Verify"))
    check(rows.count() == 2, f"a call that went through has {rows.count()} receipts")
    for number in range(rows.count()):
        rows.nth(number).get_by_role("button", name="Verify").click()
        expect(rows.nth(number).get_by_role("status")).to_contain_text("It holds")
    check_labels(page)
    take_back(page)
    frozen_from_its_page(page)
    page.goto(f"{CONSOLE}/calls")
    page.get_by_label("Decision").select_option("deny")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#calls tr").first).to_contain_text("deny")


def check_labels(page: Page) -> None:
    """The call that brought its run a label is the one that is told so, however far back."""
    page.goto(f"{CONSOLE}/calls")
    page.locator("#calls code").first.click()
    this = page.locator(".timeline .this")
    brought = page.locator(".timeline li", has=page.locator("ins"))
    for _ in range(10):
        expect(this).to_contain_text("had reads-private")
        if brought.count():
            break
        further = page.get_by_role("link", name="The run until the first of these")
        page.goto(CONTROL + str(further.get_attribute("href")))
    expect(brought).to_contain_text("shop/get_order added + reads-private")


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
    expect(told(page)).to_contain_text("The question is taken back")
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
    expect(page.locator("#verdict")).to_contain_text("It holds")
    page.get_by_role("button", name="Freeze the agent for an hour").click()
    expect(told(page)).to_contain_text("It is contained")
    say("call")
    check(heard() == 403, "an agent frozen from an incident was not refused")
    page.get_by_role("button", name="Undo").click()
    expect(told(page)).to_contain_text("The containment has ended")
    say("call")
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


def as_a_viewer(browser: Browser) -> None:
    """Looks, and has no form that changes anything."""
    context, page = opened(browser, LOOKS[0], VIEWER)
    for path in PAGES:
        page.goto(CONSOLE + path)
        buttons = [one.inner_text() for one in page.get_by_role("main").get_by_role("button").all()]
        check(set(buttons) <= {"Filter", "Explain", "Verify"}, f"a viewer has {buttons} on {path}")
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
        in_place(browser)
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
