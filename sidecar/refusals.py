"""Every refusal a caller can meet: one table.

Knows: stable codes, HTTP statuses, titles, what to do next.
Must not know: who refuses when (errors.Refused is raised with one of these codes).
"""

from __future__ import annotations

from sidecar.refusal_kinds import OF_APPROVALS, RefusalKind
from sidecar.refusals_authorize import OF_AUTHORIZE
from sidecar.refusals_callers import OF_CALLERS
from sidecar.refusals_mcp import OF_MCP

__all__ = ["REFUSALS", "RefusalKind"]


def _table(*kinds: RefusalKind) -> dict[str, RefusalKind]:
    return {kind.code: kind for kind in kinds}


#: Every code a caller can meet. README's table is generated from it; a test compares the two.
REFUSALS: dict[str, RefusalKind] = _table(
    # judged
    RefusalKind(
        "policy_deny",
        403,
        "Refused by policy",
        "Ask the owner of the named rule, or call a tool that the policies allow.",
    ),
    RefusalKind(
        "default_deny",
        403,
        "No policy allows this call",
        "Ask the operator to add an allow rule for this tool, or call a tool that is allowed.",
    ),
    RefusalKind(
        "condition_error",
        403,
        "A policy condition could not be evaluated",
        "Ask the operator: the named rule failed on this call, and a failure is a refusal.",
    ),
    *OF_APPROVALS,
    RefusalKind(
        "rate_limited",
        429,
        "A limit of the policies is reached",
        "Wait as long as Retry-After says, then try again.",
    ),
    RefusalKind(
        "obligations_conflict",
        403,
        "Policies want different things of this call",
        "Ask the operator: the named rule and another set the same header differently.",
    ),
    RefusalKind(
        "idempotency_key_required",
        400,
        "This call needs an Idempotency-Key",
        "Send the header Idempotency-Key with a value of your own, the same when you try again.",
    ),
    RefusalKind(
        "unredactable_request",
        403,
        "A value that must be masked stands where it cannot be",
        "Send it in a JSON body, or leave it out: path, query, forms and files cannot be masked.",
    ),
    RefusalKind(
        "frames_unchecked",
        403,
        "Policies want what passes looked into, and a WebSocket's frames are not",
        "Ask the operator: a rule that matches this route masks or limits what goes over it.",
    ),
    RefusalKind(
        "task_unchecked",
        403,
        "Policies want the answer looked into, and that of a task comes by another request",
        "Call the tool without `task` and without the tasks extension, or ask the operator: a rule "
        "that matches it masks or limits what it gives back.",
    ),
    RefusalKind(
        "stale_decision",
        503,
        "What the decision rested on kept changing",
        "Try again in a moment.",
    ),
    *OF_CALLERS,
    # request head
    RefusalKind(
        "malformed_request",
        400,
        "The request is malformed",
        "Send a well-formed HTTP/1.1 request with an origin-form target.",
    ),
    RefusalKind(
        "ambiguous_path",
        400,
        "The path can be read in more than one way",
        "Send one canonical path, in the letter case of the declared one: no dot segments, empty "
        "segments, backslashes, semicolons or encoded slashes.",
    ),
    RefusalKind(
        "ambiguous_header",
        400,
        "A header is ambiguous",
        "Send each header once, without underscores in its name, and name none in Connection.",
    ),
    RefusalKind(
        "too_many_parameters",
        400,
        "Too many query parameters",
        "Send fewer parameters.",
    ),
    RefusalKind(
        "misdirected_request",
        421,
        "This Host is not served here",
        "Use the address the sidecar listens on, or add the name to `hosts`.",
    ),
    RefusalKind(
        "origin_not_allowed",
        403,
        "Requests from this web origin are refused",
        "Call the sidecar from an agent, not from a web page.",
    ),
    RefusalKind(
        "unknown_upstream",
        404,
        "No such upstream",
        "The first path segment names an upstream of sidecar.yaml.",
    ),
    RefusalKind(
        "connect_refused",
        501,
        "CONNECT is not served",
        "Point the agent at http://HOST:PORT/<upstream>/… instead of using the sidecar as a proxy.",
    ),
    RefusalKind(
        "upgrade_refused",
        501,
        "This upgrade is not served",
        "Use plain HTTP requests; a WebSocket needs `websocket: true` of its route.",
    ),
    RefusalKind(
        "bad_handshake",
        400,
        "The WebSocket handshake is malformed",
        "Send what RFC 6455 section 4.1 asks of a client, version 13, and nothing before the "
        "answer.",
    ),
    RefusalKind(
        "expectation_failed",
        417,
        "Unknown expectation",
        "Only `Expect: 100-continue` is known.",
    ),
    RefusalKind(
        "headers_too_large",
        431,
        "The request head is too large",
        "Send fewer or shorter headers.",
    ),
    RefusalKind(
        "request_timeout",
        408,
        "The request took too long to arrive",
        "Send it faster, or smaller.",
    ),
    RefusalKind(
        "too_many_connections",
        503,
        "Too many connections",
        "Close idle ones and try again.",
    ),
    # body
    RefusalKind(
        "body_too_large",
        413,
        "The request body is too large",
        "Send less, or raise `limits.request` of the upstream.",
    ),
    RefusalKind(
        "too_many_values",
        413,
        "The JSON holds too many values",
        "Send fewer at a time, or raise `limits.values`.",
    ),
    RefusalKind(
        "body_incomplete",
        400,
        "The request body ended early",
        "Send as much as announced.",
    ),
    RefusalKind(
        "unsupported_encoding",
        415,
        "Content-Encoding is not accepted",
        "Send the body without Content-Encoding, or ask the operator for `decode` of the upstream.",
    ),
    RefusalKind(
        "corrupt_encoding",
        400,
        "The body is not what its Content-Encoding says",
        "Send one whole stream of that coding and nothing behind it, or the plain body.",
    ),
    RefusalKind(
        "unsupported_media_type",
        415,
        "This content type is not accepted here",
        "Send UTF-8, name the type of every body, and send JSON as application/json.",
    ),
    RefusalKind(
        "invalid_json",
        400,
        "The body is not strict JSON",
        "Send UTF-8 JSON: unique keys, no NaN, no NUL, integers within ±2^53, no digits that a "
        "double drops, moderate depth.",
    ),
    RefusalKind(
        "invalid_form",
        400,
        "The form can be read in more than one way",
        "Send fields without blanks around them; in multipart, quoted names and no escapes; with "
        "GET, send them in the query.",
    ),
    RefusalKind(
        "ambiguous_argument",
        400,
        "An argument is given twice",
        "Name each argument once, in one place; with GET that is the query. Of a list the "
        "catalogue has to say that it is one: ask the operator.",
    ),
    RefusalKind(
        "invalid_argument",
        400,
        "An argument does not fit the tool's declaration",
        "Send the arguments the catalogue declares, of the declared types.",
    ),
    # MCP
    *OF_MCP,
    # authorize
    *OF_AUTHORIZE,
    # recording
    RefusalKind(
        "store_unavailable",
        503,
        "The decision could not be recorded",
        "Nothing was forwarded. Try again; the operator sees the cause in `store status`.",
    ),
    RefusalKind(
        "queue_full",
        503,
        "Too many decisions wait to be recorded",
        "Nothing was forwarded. Slow down and try again.",
    ),
    RefusalKind(
        "run_unreadable",
        503,
        "What this agent's run has gathered cannot be read",
        "Nothing was forwarded. The operator verifies the store and ends the run: `runs reset`.",
    ),
    RefusalKind(
        "store_fenced",
        503,
        "The store stands still while it is moved",
        "Nothing was forwarded. Try again later; the operator sees in `store status` how to go on.",
    ),
    RefusalKind(
        "store_moved",
        503,
        "The store was moved, and this sidecar still has the old one",
        "Nothing was forwarded. The operator sets `store:` to the new URL and restarts it.",
    ),
    RefusalKind(
        "shutting_down",
        503,
        "The sidecar is shutting down",
        "Try again on its successor.",
    ),
    RefusalKind(
        "internal_error",
        503,
        "The sidecar failed on this call",
        "Tell the operator the call id; the log names the cause.",
    ),
    # upstream
    RefusalKind(
        "upstream_busy",
        503,
        "Too many calls in flight to this upstream",
        "Try again in a moment.",
    ),
    RefusalKind(
        "bodies_full",
        503,
        "Too much is held of requests that have not ended",
        "Nothing was forwarded. Try again in a moment, with less at once; or raise "
        "`limits.bodies`.",
    ),
    RefusalKind(
        "answers_full",
        503,
        "Too much is held of answers that have to be looked into",
        "The call may have taken effect. Try again in a moment, or raise `limits.held`.",
    ),
    RefusalKind(
        "upstream_unreachable",
        502,
        "The upstream could not be reached",
        "Try again; tell the operator if it lasts: the log names the cause.",
    ),
    RefusalKind(
        "upstream_timeout",
        504,
        "The upstream did not answer in time",
        "The call may have taken effect: look before you try again.",
    ),
    RefusalKind(
        "upstream_broken",
        502,
        "The upstream's answer was malformed or broke off",
        "The call may have taken effect: look before you try again.",
    ),
    # The call took effect, or may have where a redirect answered it, and would again: nearly every
    # client library repeats what is told as 5xx by itself (PyGithub a POST ten times,
    # Elasticsearch's three times, OpenAI's and Anthropic's twice).
    RefusalKind(
        "response_too_large",
        403,
        "The upstream's answer is larger than the policies allow",
        "The call took effect. Ask for less, or ask the operator about `max_response`.",
    ),
    RefusalKind(
        "cannot_redact",
        403,
        "The upstream's answer cannot be masked",
        "The call took effect. Ask the operator: the answer must be JSON, text or events in UTF-8.",
    ),
    RefusalKind(
        "redirect_refused",
        403,
        "The upstream redirects to a foreign host",
        "The call may have taken effect. Ask the operator: `url` must be where the upstream's own "
        "paths are, `redirects` name foreign hosts.",
    ),
    RefusalKind(
        "list_unchecked",
        502,
        "The server's list of tools cannot be checked",
        "Try again. Ask the operator if it lasts: the log and `tools diff` say more.",
    ),
    RefusalKind(
        "metadata_unusable",
        502,
        "What the server says of its authorization cannot be used",
        "Ask the operator: it must be plain metadata (RFC 9728) of the upstream's own URL.",
    ),
)
