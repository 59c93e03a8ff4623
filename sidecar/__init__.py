"""aegis-sidecar: judges, records, then forwards the tool calls of AI agents."""

__version__ = "0.1.0"
