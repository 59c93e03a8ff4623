"""`aegis-sidecar wrap`: the sidecar around one local MCP server."""
