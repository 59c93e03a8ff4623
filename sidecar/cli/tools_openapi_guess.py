"""How dangerous an operation looks, by its method and its words.

Knows: HTTP methods, and English words that operations are named by. A guess for review: it never
makes an operation looser than its method does.
Must not know: documents, catalogues.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_SAFE_METHODS = frozenset({"get", "head", "options"})
#: What changes who may do what, moves money, runs code, reaches outwards or cannot be undone.
_GRAVE = re.compile(
    r"(admin|credential|grant|impersonate|invite|key|member|password|permission|policy|policies"
    r"|revoke|role|secret|token|billing|charge|payment|pay|payout|refund|transfer|deploy"
    r"|deployment|dispatch|exec|execute|run|shell|hook|webhook|delete|destroy|erase|force|merge"
    r"|purge|remove|reset|terminate|wipe)s?"
)
#: What changes something, whatever the method says.
_CHANGING = re.compile(
    r"activate|add|cancel|create|deactivate|delete|destroy|disable|enable|execute|invoke|logout"
    r"|purge|remove|reset|restart|revoke|run|send|set|start|stop|submit|trigger|update"
)
_READING = re.compile(r"count|find|get|list|lookup|preview|query|search|validate")


def guess(method: str, name: str, path: str) -> tuple[bool, str, str]:
    """Whether an operation changes something, its risk, and what a reviewer should know of it.

    `method` is in lower case.
    """
    said = [word.lower() for word in _WORD.findall(name)]
    if method in _SAFE_METHODS:
        # The words between name things: only the first and the last may be the verb.
        verbs = [one for one in (*said[:1], *said[-1:]) if _CHANGING.fullmatch(one)]
        if not verbs or any(_READING.fullmatch(one) for one in said):
            return False, "low", ""
        return True, "medium", f"{method.upper()} by its method, but it may {verbs[0]} something"
    words = {*said, *(word.lower() for word in _WORD.findall(path))}
    is_grave = method == "delete" or any(_GRAVE.fullmatch(word) for word in words)
    hint = ""
    if method != "delete" and any(_READING.fullmatch(word) for word in said):
        hint = "by its name it may only read: set mutates: false if you agree"
    return True, "high" if is_grave else "medium", hint
