"""JSON values as the nodes that files are read from, so that the same reader takes both.

Knows: that a value which came as JSON has no place of its own but that of the whole.
Must not know: what is read out of the nodes.
"""

from __future__ import annotations

from typing import Any

from sidecar.problems import Position
from sidecar.yaml_reader import Node


def node_of(value: Any, place: Position) -> Node:
    """The node of a parsed JSON value."""
    if isinstance(value, dict):
        value = {key: node_of(member, place) for key, member in value.items()}
    elif isinstance(value, list):
        value = [node_of(member, place) for member in value]
    return Node(value, place, place)
