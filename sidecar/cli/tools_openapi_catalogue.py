"""Writes what an OpenAPI document says of its operations as a first catalogue, for review.

Knows: the catalogue's YAML form and its greatest size.
Must not know: the document's form (tools_openapi), files.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from sidecar.cli.catalogue_text import NOTE_LENGTH_MAX, Draft, comment, key, quoted, value
from sidecar.cli.tools_openapi import Described, Survey
from sidecar.counted import counted
from sidecar.policy.openapi_text import BadDocument
from sidecar.yaml_reader import BYTES_MAX


def render_openapi(upstream: str, url: str, found: Survey) -> Draft:
    """The catalogue of `upstream`, whose base is `url`, one entry per operation.

    Descriptions are left out if it would be too large with them. Raises BadDocument if it is too
    large without.
    """
    draft = Draft("", len(found.described), _notes(url, found))
    for has_descriptions in (True, False):
        draft.text = _text(upstream, found, draft.notes, has_descriptions)
        if len(draft.text.encode()) <= BYTES_MAX:
            return draft
        if has_descriptions:
            draft.notes.append("descriptions are left out: a catalogue is at most 1 MiB")
    raise BadDocument(
        f"its {counted(len(found.described), 'operation does', 'operations do')} not "
        f"fit a catalogue of {BYTES_MAX} bytes: "
        "name the document itself in one, `openapi: ./FILE`"
    )


def _text(upstream: str, found: Survey, notes: list[str], has_descriptions: bool) -> str:
    title = comment(f"{found.title or 'without a title'} {found.version}")
    lines = [
        f"# A first catalogue from the OpenAPI document {title}, for review.",
        "# mutates, risk and labels are guesses from methods and words. What calls give back is of",
        "# unknown trust until you say otherwise (`returns: trusted_internal_unsigned`, or",
        "# `untrusted_external` where strangers write). args hold names and types only: ranges,",
        "# patterns and enumerations are left to rules. Where args stand, other names are refused.",
        f"catalogue: {upstream}",
        "tools:" if found.described else "tools: {}",
    ]
    for described in found.described:
        lines += _entry(described, has_descriptions)
    if found.left_out:
        lines.append("# Left out, and so judged as unknown:")
        lines += [f"#   {comment(one, NOTE_LENGTH_MAX)}" for one in found.left_out]
    lines += [f"# {comment(note, NOTE_LENGTH_MAX)}" for note in notes]
    return "\n".join(lines) + "\n"


def _entry(described: Described, has_descriptions: bool) -> list[str]:
    lines = []
    if described.description and has_descriptions:
        lines.append(f"  # {comment(described.description)}")
    lines.append(f"  {key(described.name)}:")
    lines += [
        f"    # {comment(one, NOTE_LENGTH_MAX)}" for one in (*described.hints, *described.unsaid)
    ]
    lines.append(f"    route: {quoted(described.route.text)}")
    lines.append(f"    mutates: {'true' if described.mutates else 'false'}")
    lines.append(f"    risk: {described.risk}")
    if described.labels:
        lines.append(f"    labels: [{', '.join(described.labels)}]")
    if described.args is None:
        return lines
    declared = described.args.plain()
    lines.append("    args:" if declared else "    args: {}")
    lines += [f"      {key(name)}: {value(kind)}" for name, kind in declared.items()]
    return lines


def _notes(url: str, found: Survey) -> list[str]:
    unchecked = sum(1 for one in found.described if one.args is None)
    unsaid = sum(len(one.unsaid) for one in found.described)
    notes = [
        f"{counted(len(found.described), 'operation')}; {len(found.left_out)} left out; "
        f"{unchecked} with unchecked args; {counted(unsaid, 'thing')} that a catalogue cannot "
        "say, each beside its entry"
    ]
    if found.servers and not any(_leads_to(one, url) for one in found.servers):
        notes.append(
            f"the document's paths are below {comment(found.servers[0])}, the upstream's url is "
            f"{url}: routes fit only if both have the same path"
        )
    return notes


def _leads_to(server: str, url: str) -> bool:
    """Whether a server's URL and the upstream's have one path."""
    try:
        return urlsplit(server).path.rstrip("/") == urlsplit(url).path.rstrip("/")
    except ValueError:
        return False
