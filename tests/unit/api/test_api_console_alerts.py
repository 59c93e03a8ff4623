"""The console's page of alerts: what each rests on, and what people do with it, with why."""

from __future__ import annotations

from api_setup import Served, ids_of
from console_setup import browser, notice


async def test_an_alert_shows_what_it_rests_on_and_is_worked_on(served: Served) -> None:
    await notice(served)
    at = await browser(served).sign_in()
    _, text = await at.open("/alerts")
    assert "what it rests on" in text and 'href="/console/calls/' in text
    assert "I look at it" in text and text.count('name="reason"') == 1, "an end says why"
    alert = {"alert_id": ids_of("acme")["alert_id"], "csrf": at.csrf}
    assert (await at.send("/do/acknowledge_alert", alert))[0] == 303
    _, text = await at.open("/alerts")
    assert "I look at it" not in text and "<b>acknowledge</b>" in text
    assert (await at.send("/do/close_alert", alert | {"reason": "<i>noise"}))[0] == 303
    _, text = await at.open("/alerts")
    assert "<b>close</b>" in text and "&lt;i&gt;noise" in text and "Close</button>" not in text
    assert "Nothing was noticed" in (await at.open("/alerts?detection=none-of-ours"))[1]
    await at.client.close()


async def test_who_may_only_look_has_no_forms(served: Served) -> None:
    await notice(served)
    at = await browser(served).sign_in("acme", "viewer")
    _, text = await at.open("/alerts")
    assert "what it rests on" in text and "/do/" not in text.replace("/do/sign_out", "")
    await at.client.close()
