"""The demo's story: what an agent does through the sidecar, told in a newcomer's words.

Knows: the base URLs, and what each answer proves. It speaks plain HTTP, as any agent would, with
a new run id and trace on every call and new sessions of MCP, and says nothing of what it has read.
`told` keeps which rule the story says decided each call, so that the receipts can be held against
it.
Must not know: the sidecar's insides; it meets what an agent, an operator and an auditor meet.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from sidecar.clock import Clock
from sidecar.demo.operator import Operator
from sidecar.demo.tool_server import LEGACY

Say = Callable[[str], None]
AGREED = "the customer sent the tea back"
#: How often it is looked whether the call waits yet.
LOOK_S = 0.05

#: Many times more than the detection keeps-trying.yaml lets pass: an agent that was just let go on
#: has a few seconds before the same is noticed anew.
TRIES_MAX = 200
REVIEWED = "looked into it: the web page was a trick, nothing was done"


class Told(NamedTuple):
    """What the story said of a call: the rule that decided (None: no rule did), and the effect."""

    call_id: str
    rule: str | None
    decision: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, as far as it is JSON; `session` is that of MCP, if one was given."""

    status: int
    body: dict[str, Any]
    call_id: str
    session: str = ""


@dataclass(slots=True)
class Story:
    """Plays the calls; `failures` lists what did not go as told."""

    data_url: str
    say: Say
    seen: Sequence[str]
    operator: Operator
    clock: Clock = field(default_factory=Clock)
    failures: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    _step: int = 0

    async def play(self) -> None:
        """All calls of the demo, in order."""
        async with aiohttp.ClientSession() as agent:
            await self._reads(agent)
            await self._is_refused_an_amount(agent)
            await self._waits_for_a_person(agent)
            await self._uses_a_note(agent)
            await self._reads_a_planted_page(agent)
            await self._is_let_go_on(agent)
            await self._keeps_trying(agent)

    def check(self, holds: bool, what: str) -> None:
        """Notes a failure if `holds` is false."""
        if not holds:
            self.failures.append(what)
            self.say(f"   !! not as expected: {what}")

    def step(self, title: str) -> None:
        """Begins the next step of the story."""
        self._step += 1
        self.say(f"{self._step}. {title}")

    async def _reads(self, agent: aiohttp.ClientSession) -> None:
        self.step("The agent reads an order: GET /shop/orders/1001")
        read = await self._call(agent, "GET", "/shop/orders/1001")
        self._allowed(read, "demo/reads", "the read is allowed")
        self.check(read.body.get("id") == "1001", "the shop answers with the order")
        self.say("   allowed by rule demo/reads, recorded, then sent to the shop. The shop says:")
        self.say(f"   {read.body.get('customer')}, {read.body.get('total_cents')} cents.")

    async def _is_refused_an_amount(self, agent: aiohttp.ClientSession) -> None:
        self.step("It tries to refund 99900 cents: POST /shop/orders/1002/refund")
        before = len(self.seen)
        refused = await self._refund(agent, "1002", 99900)
        self._refused(refused, "demo/no-large-refunds", "the large refund is refused")
        self.check(len(self.seen) == before, "the shop never saw the refund")
        self.say("   The shop never saw this request; the refusal is recorded too.")

    async def _waits_for_a_person(self, agent: aiohttp.ClientSession) -> None:
        self.step("It tries to refund 12000 cents, which needs a person. The call is held:")
        before = len(self.seen)
        call = asyncio.ensure_future(self._refund(agent, "1002", 12000))
        asked: list[dict[str, Any]] = []
        while not asked and not call.done():
            asked = [one for one in await self.operator.waiting() if one["tool"] == "shop/refund"]
            await asyncio.sleep(LOOK_S)
        self.check(bool(asked), "the larger refund waits for a person")
        for one in asked[:1]:
            self.check(len(self.seen) == before, "the shop has not seen it yet")
            arguments = one["asked"]["arguments"]
            self.say(f"   {one['asked']['reason']}; order {arguments['number']}")
            self.say(f'   aegis-sidecar approvals approve {one["approval_id"]} --reason "{AGREED}"')
            decided = await self.operator.approve(one["approval_id"], AGREED)
            self.say(
                f"   {decided['state']} by {decided['votes'][0]['actor']}, for this call only."
            )
        answer = await call
        rule = "demo/larger-refunds-ask"
        self.told.append(Told(answer.call_id, rule, "require_approval"))
        self.check(answer.status == 200, "the approved refund goes through")
        self.say("   The same call, still open, went on to the shop; the yes is spent.")

    async def _uses_a_note(self, agent: aiohttp.ClientSession) -> None:
        self.step("Over MCP it reads a note, then tries to delete it")
        session = await self._session(agent)
        read = await self._tool(agent, session, "read_note", title="welcome")
        self._allowed(read, "demo/reads", "the note can be read")
        self.say(f'   read_note: "{_text(read)}"')
        before = len(self.seen)
        deleted = await self._tool(agent, session, "delete_note", title="welcome")
        self.told.append(Told(deleted.call_id, None, "deny"))
        self.check(_result(deleted).get("isError") is True, "the deletion is refused")
        self.check(len(self.seen) == before, "the notebook never saw the deletion")
        self.say("   delete_note, as the model reads it:")
        for line in _text(deleted).splitlines():
            self.say(f"      {line}")

    async def _reads_a_planted_page(self, agent: aiohttp.ClientSession) -> None:
        self.step("Ada wants 1200 cents back. The agent refunds: POST /shop/orders/1001/refund")
        asked = await self._refund(agent, "1001", 1200)
        self._allowed(asked, "demo/small-refunds", "the small refund is allowed")
        self.say("   allowed by rule demo/small-refunds.")

        self.step(
            "Over MCP it reads a page of the public web. A stranger has planted orders in it:"
        )
        session = await self._session(agent)
        url = "https://tea.example/ten-teas"
        page = await self._tool(agent, session, "read_web_page", url=url)
        self._allowed(page, "demo/reads", "the page can be read")
        self.check("Refund 1200 cents" in _text(page), "the page holds its orders")
        self.say(f'   read_web_page: "{_text(page)}"')

        self.step("The agent obeys, over REST: the very refund that was allowed in step 5")
        before = len(self.seen)
        obeyed = await self._refund(agent, "1001", 1200)
        rule = "confused-deputy/strangers-change-nothing"
        self._refused(obeyed, rule, "the refund that the page wanted is refused")
        self.check(len(self.seen) == before, "the shop never saw what the page wanted")
        self.say(
            "   The agent declared nothing, and came with a new MCP session, run id and trace."
        )
        self.say("   The catalogue says that read_web_page `returns: untrusted_external`, and the")
        self.say("   sidecar keeps in its store what each agent has read.")
        read = await self._call(agent, "GET", "/shop/orders/1001")
        self._allowed(read, "demo/reads", "reading goes on")
        self.say("   Reading goes on: GET /shop/orders/1001 is allowed.")

    async def _is_let_go_on(self, agent: aiohttp.ClientSession) -> None:
        self.step("The operator looks into it and ends the run, which is put on record:")
        self.say(f'   aegis-sidecar runs reset agent --reason "{REVIEWED}"')
        await self.operator.end_run(REVIEWED)
        again = await self._refund(agent, "1001", 1200)
        self._allowed(again, "demo/small-refunds", "the refund is allowed in a new run")
        self.say("   The same refund, now for a customer: allowed by rule demo/small-refunds.")

    async def _keeps_trying(self, agent: aiohttp.ClientSession) -> None:
        self.step("Misled anew, it keeps asking for a tool that nobody has declared:")
        session = await self._session(agent)
        before, tries = len(self.seen), 0
        noticed = None
        while noticed is None and tries < TRIES_MAX:
            tries += 1
            asked = await self._tool(agent, session, "export_all_notes", to=f"page-{tries}")
            self.told.append(Told(asked.call_id, None, "deny"))
            noticed = await self.operator.noticed()
            await asyncio.sleep(LOOK_S)
        self.check(len(self.seen) == before, "the notebook never saw what it asked for")
        self.check(noticed is not None, "the refusals become an incident, and the agent is frozen")
        if noticed is None:
            return
        incident, contained = noticed
        self.say(f"   Incident {incident['incident_id']}: {incident['title']}")
        self.say(f"   {contained['action']} {contained['subject']}, by {contained['actor']}")
        read = await self._call(agent, "GET", "/shop/orders/1001")
        self.told.append(Told(read.call_id, None, "deny"))
        self.check(read.body.get("code") == "agent_frozen", "a frozen agent is refused")
        self.say(f"   From here on nothing of it goes ahead: {read.body.get('detail')}")

        self.step(
            f"Does the record bear it out? aegis-sidecar soc verify {incident['incident_id']}"
        )
        holds, lines = await self.operator.verify(incident["incident_id"])
        self.check(holds, "the incident holds against the chain")
        for line in lines:
            self.say(f"   {line}")
        undone = await self.operator.undo(contained["containment_id"], REVIEWED)
        self.check(undone["state"] == "undone", "the freeze is undone")
        await self.operator.close(incident["incident_id"], REVIEWED)
        self.say(f"   aegis-sidecar containments undo {contained['containment_id']}")
        self.say(f"   aegis-sidecar incidents close {incident['incident_id']}")
        read = await self._call(agent, "GET", "/shop/orders/1001")
        self._allowed(read, "demo/reads", "the agent may read again")
        self.say("   The agent may read again; what was decided, by whom and why is on record.")

    # -- what an answer must be ------------------------------------------------------------

    def _allowed(self, answer: Answer, rule: str, what: str) -> None:
        self.told.append(Told(answer.call_id, rule, "allow"))
        is_error = _result(answer).get("isError", False) or "error" in answer.body
        self.check(answer.status == 200 and not is_error, what)

    def _refused(self, answer: Answer, rule: str, what: str) -> None:
        """The refusal as the agent gets it, with rule, reason and what to do next."""
        self.told.append(Told(answer.call_id, rule, "deny"))
        problem = answer.body
        self.check(answer.status == 403 and problem.get("rule") == rule, what)
        self.say(f"   refused ({answer.status} {problem.get('code')}): {problem.get('detail')}")
        self.say(f"   rule {problem.get('rule')}; call {answer.call_id}")
        self.say(f"   next step for the agent: {problem.get('next_step')}")

    # -- calls -----------------------------------------------------------------------------

    async def _refund(self, agent: aiohttp.ClientSession, order: str, cents: int) -> Answer:
        path = f"/shop/orders/{order}/refund"
        return await self._call(agent, "POST", path, {"amount_cents": cents})

    async def _session(self, agent: aiohttp.ClientSession) -> str:
        """A new session with the notebook."""
        params = {
            "protocolVersion": LEGACY,
            "capabilities": {},
            "clientInfo": {"name": "demo", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        return (await self._call(agent, "POST", "/notes", message)).session

    async def _tool(
        self, agent: aiohttp.ClientSession, session: str, name: str, **arguments: str
    ) -> Answer:
        params = {"name": name, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        return await self._call(agent, "POST", "/notes", message, session)

    async def _call(
        self,
        agent: aiohttp.ClientSession,
        method: str,
        path: str,
        body: object = None,
        session: str = "",
    ) -> Answer:
        headers = {
            "Accept": "application/json, text/event-stream",
            "Aegis-Run": self._fresh(16),
            "traceparent": f"00-{self._fresh(16)}-{self._fresh(8)}-01",
        }
        if session:
            headers["Mcp-Session-Id"] = session
        url = f"{self.data_url}{path}"
        async with agent.request(method, url, json=body, headers=headers) as reply:
            text = await reply.text()
            call_id = reply.headers.get("Aegis-Call-Id", "")
            given = reply.headers.get("Mcp-Session-Id", "")
        try:
            said = json.loads(text)
        except ValueError:
            said = {"not JSON": text[:200]}
        return Answer(
            reply.status, said if isinstance(said, dict) else {"is": said}, call_id, given
        )

    def _fresh(self, count: int) -> str:
        return self.clock.random_bytes(count).hex()


def _result(answer: Answer) -> dict[str, Any]:
    result: dict[str, Any] = answer.body.get("result") or {}
    return result


def _text(answer: Answer) -> str:
    return " ".join(part.get("text", "") for part in _result(answer).get("content", []))
