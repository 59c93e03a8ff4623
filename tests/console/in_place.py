"""What htmx does in a page: calls come, people answer, receipts are verified, and nothing is loaded
anew; what fails is told; nothing of a page is kept in the browser."""

from __future__ import annotations

import re

from playwright.sync_api import Browser, Locator, Page, expect
from window import ADMIN, CONSOLE, LOOKS, PLANTED, check, heard, opened, say, told

#: Milliseconds in which an inbox looks again twice.
TWO_LOOKS_MS = 4_500


def in_place(browser: Browser) -> None:
    """All of it, in a window of its own."""
    context, page = opened(browser, LOOKS[0], ADMIN)
    live_calls(page)
    inbox(page)
    receipts(page)
    explanation(page)
    kept = page.evaluate("sessionStorage.length + localStorage.length")
    check(kept == 0, f"{kept} things are kept in the browser")
    context.close()
    failures(browser)
    signed_out(browser)


def stay(page: Page, path: str) -> None:
    """Opens a page that is not to be left."""
    page.goto(CONSOLE + path)
    page.evaluate("window.has_stayed = true")


def check_stayed(page: Page, what: str) -> None:
    check(page.evaluate("window.has_stayed === true"), f"{what} loaded a page anew")


def waiting(page: Page, amount: int) -> Locator:
    """The refund of so much in the inbox."""
    return page.get_by_role("article").filter(has_text=f"a refund of {amount} asks a person")


def live_calls(page: Page) -> None:
    stay(page, "/calls?decision=allow")
    expect(page.get_by_text("New calls appear as they are recorded.")).to_be_visible()
    say("call")
    check(heard() == 200, "a call that is allowed did not go through")
    fresh = page.locator("#calls tr.new")
    expect(fresh.first).to_contain_text("shop/get_order", timeout=10_000)
    fresh.first.get_by_role("link").last.click()
    expect(page.get_by_role("heading", name="Receipts")).to_be_visible()


def inbox(page: Page) -> None:
    """A held call comes by itself; the list stands still while somebody writes in it; a yes and a
    no are given where it is."""
    stay(page, "/approvals")
    say(150)
    first, second = waiting(page, 150), waiting(page, 160)
    expect(first).to_be_visible(timeout=10_000)
    expect(first.get_by_label("Arguments")).to_contain_text(PLANTED)
    first.get_by_label("Why").fill("the customer called")
    say(160)
    page.wait_for_timeout(TWO_LOOKS_MS)
    check(second.count() == 0, "the inbox changed while somebody wrote in it")
    expect(first.get_by_label("Why")).to_have_value("the customer called")
    first.get_by_label("Why").press("Enter")
    page.wait_for_timeout(500)
    check(told(page).inner_text() == "", "the return key in a field was an answer")
    first.get_by_role("button", name="Approve").click()
    expect(told(page)).to_contain_text("Your yes is on record.")
    say("answered")
    check(heard() == [200], "a call that was approved in the inbox did not go through")
    check(page.evaluate("document.activeElement.id") == "main", "the keyboard's place was lost")
    expect(second).to_be_visible(timeout=10_000)
    second.get_by_role("button", name="Reject").click()
    expect(told(page)).to_contain_text("Your no is on record.")
    say("answered")
    check(heard() == [403], "a call that was rejected in the inbox went through")
    expect(page.get_by_text("Nothing waits for a yes.")).to_be_visible(timeout=10_000)
    page.wait_for_timeout(TWO_LOOKS_MS)
    expect(told(page)).to_contain_text("Your no is on record.")
    check_stayed(page, "answering")


def receipts(page: Page) -> None:
    for path in ("/receipts", "/receipts/1"):
        stay(page, path)
        page.get_by_role("button", name="Verify").click()
        expect(page.locator(".verdict")).to_contain_text("It holds")
        check_stayed(page, f"verifying on {path}")


def explanation(page: Page) -> None:
    stay(page, "/policies")
    described = '{"call": "shop/refund", "args": {"amount": 7, "id": "1"}}'
    page.get_by_label("The call, as").fill(described)
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#explained")).to_contain_text("shop/refunds-ask")
    expect(page.get_by_label("The call, as")).to_have_value(described)
    page.get_by_label("The call, as").fill("nothing")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#explained")).to_contain_text("Describe the call as a JSON object.")
    check_stayed(page, "explaining")


def failures(browser: Browser) -> None:
    """An answer that came too late, one that is no page, and none at all are told where they were
    asked for; what was written stays."""
    expected = ("409", "502", "ERR_FAILED", "htmx:")
    context, page = opened(browser, LOOKS[0], ADMIN, expected)
    stay(page, "/approvals")
    say(170)
    asked, problem = waiting(page, 170), page.locator("#problem")
    expect(asked).to_be_visible(timeout=10_000)
    why = asked.get_by_label("Why")
    why.fill("mine")
    other = context.new_page()
    other.goto(f"{CONSOLE}/approvals")
    waiting(other, 170).get_by_role("button", name="Approve").click()
    expect(told(other)).to_contain_text("Your yes is on record.")
    say("answered")
    check(heard() == [200], "a call that was approved did not go through")
    approve = asked.get_by_role("button", name="Approve")
    approve.click()
    expect(problem).to_contain_text(re.compile("decided|voted|answered|spent"))
    expect(why).to_have_value("mine")
    page.route("**/console/do/**", lambda route: route.fulfill(status=502, body="<p>none</p>"))
    approve.click()
    expect(problem).to_have_text("It was not done: the sidecar answered 502.")
    page.unroute("**/console/do/**")
    page.route("**/console/do/**", lambda route: route.abort())
    page.evaluate("document.getElementById('problem').replaceChildren()")
    approve.click()
    expect(problem).to_contain_text("The sidecar cannot be reached.")
    page.get_by_role("heading", level=1).click()
    page.evaluate("document.activeElement.blur()")
    expect(asked).to_have_count(0, timeout=10_000)
    expect(problem).to_contain_text("The sidecar cannot be reached.")
    check_stayed(page, "what failed")
    context.close()


def signed_out(browser: Browser) -> None:
    """Who signs out in one window is led to sign in by the others, and back."""
    context, page = opened(browser, LOOKS[0], ADMIN, ("401",))
    page.goto(f"{CONSOLE}/approvals?state=any")
    calls = context.new_page()
    calls.goto(f"{CONSOLE}/calls")
    expect(calls.get_by_text("New calls appear as they are recorded.")).to_be_visible()
    other = context.new_page()
    other.goto(f"{CONSOLE}/agents")
    other.get_by_role("button", name="Sign out").click()
    page.wait_for_url(re.compile("/console/sign-in"), timeout=10_000)
    page.get_by_label("Your key").fill(ADMIN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{CONSOLE}/approvals?state=any")
    expect(calls.locator("#live-word")).to_have_text(
        "You are not signed in any more.", timeout=15_000
    )
    context.close()
