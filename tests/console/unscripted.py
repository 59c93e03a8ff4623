"""The console in a browser that runs no script: all that can be done is done all the same."""

from __future__ import annotations

from playwright.sync_api import Browser, Locator, Page, expect
from window import ADMIN, CONSOLE, check, frozen_from_its_page, heard, say, told


def without_a_script(browser: Browser) -> None:
    """Signs in, answers, verifies, explains, freezes."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{CONSOLE}/calls")
    page.get_by_label("Your key").fill(ADMIN)
    page.get_by_role("button", name="Sign in").click()
    check(page.url == f"{CONSOLE}/calls", "without a script signing in leads elsewhere")
    answers(page)
    verdicts(page)
    page.goto(f"{CONSOLE}/policies")
    page.get_by_label("The call, as").fill('{"call": "shop/refund", "args": {"amount": 7}}')
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#explained")).to_contain_text("shop/refunds-ask")
    check("describe=" in page.url, "without a script an explanation has no address")
    frozen_from_its_page(page)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Your key")).to_be_visible()
    context.close()


def answers(page: Page) -> None:
    """A yes and a no, in the inbox and on the page of the question; what comes too late is told."""
    asked = arrived(page, 180)
    asked.get_by_label("Why").fill("the customer called")
    asked.get_by_role("button", name="Approve").click()
    expect(told(page)).to_contain_text("Your yes is on record.")
    check(page.url == f"{CONSOLE}/approvals", "a yes in the inbox leads elsewhere")
    say("answered")
    check(heard() == [200], "a call approved without a script did not go through")
    arrived(page, 190).get_by_role("link", name="shop/refund").click()
    other = page.context.new_page()
    other.goto(page.url)
    page.get_by_role("button", name="Reject").click()
    expect(told(page)).to_contain_text("Your no is on record.")
    say("answered")
    check(heard() == [403], "a call rejected without a script went through")
    other.get_by_role("button", name="Approve").click()
    check("/do/approve" in other.url, "a yes that came too late is not told of")
    other.close()


def arrived(page: Page, amount: int) -> Locator:
    """The question of such a refund, once it is there."""
    say(amount)
    asked = page.get_by_role("article").filter(has_text=f"a refund of {amount} asks a person")
    for _ in range(40):
        page.goto(f"{CONSOLE}/approvals")
        if asked.count():
            break
        page.wait_for_timeout(250)
    return asked


def verdicts(page: Page) -> None:
    """Each has a page of its own, and a way back."""
    for path in ("/receipts", "/receipts/1"):
        page.goto(CONSOLE + path)
        page.get_by_role("button", name="Verify").click()
        expect(page.get_by_text("It holds", exact=True)).to_be_visible()
        page.get_by_role("link", name="Back").click()
        check(page.url == CONSOLE + path, "back from a verdict leads elsewhere")
