"""The `inputSchema` of MCP tools, as their servers wrote it: read, bounded, held against calls."""
