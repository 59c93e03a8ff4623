"""What only callers of the authorize API can meet; part of the one table of refusals.

Knows: code, HTTP status, title, what the caller can do.
Must not know: how any of it comes about.
"""

from __future__ import annotations

from typing import Final

from sidecar.refusal_kinds import RefusalKind

OF_AUTHORIZE: Final = (
    RefusalKind(
        "invalid_request",
        400,
        "This is not a request as it has to be",
        "Send the members this endpoint takes, of their types; README shows one.",
    ),
    RefusalKind(
        "unknown_route",
        404,
        "There is no such path here",
        "Agents use /v1/authorize and /v1/approvals; all else is on the control listener.",
    ),
    RefusalKind(
        "not_built",
        501,
        "This sidecar cannot do that yet",
        "See README for what it does not do yet.",
    ),
    RefusalKind(
        "kept_in_files",
        403,
        "That is not changed over HTTP",
        "Change the file, which can be reviewed; the sidecar takes it over.",
    ),
    RefusalKind(
        "operator_required",
        403,
        "Only an operator spends a yes for an agent",
        "Send the agent's own token, or a key with the role operator.",
    ),
    RefusalKind(
        "unknown_approval",
        404,
        "There is no such approval of this agent",
        "Use the id that the answer to the call gave, with the token of the agent that made it.",
    ),
    RefusalKind(
        "approval_hash_mismatch",
        409,
        "The approval was given for another action",
        "Act only on the call as it was approved, or ask anew for the one that is meant now.",
    ),
    RefusalKind(
        "approval_not_consumable",
        409,
        "This approval is not to be consumed here",
        "Make the approved call again through the sidecar: it spends the approval itself.",
    ),
    RefusalKind(
        "unsigned_only",
        401,
        "Signed requests cannot be checked here",
        "Leave X-Aegis-Request-Signature out: the token alone says who calls.",
    ),
    RefusalKind(
        "unmet_obligation",
        403,
        "A rule asks for what only the proxy can do",
        "Call the tool through the sidecar, or ask the owner of the named rule.",
    ),
    RefusalKind(
        "request_id_reused",
        409,
        "The request id was used for something else",
        "Give every new request an id of its own; repeat only the very same request under one.",
    ),
    RefusalKind(
        "replay_nonce_reused",
        409,
        "The nonce was used before",
        "Give every request a nonce of its own.",
    ),
    RefusalKind(
        "replay_timestamp_expired",
        409,
        "The timestamp is too far from now",
        "Set the clock, and send the time at which the request is made.",
    ),
)
