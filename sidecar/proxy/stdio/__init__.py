"""MCP over stdio: a local server's pipes in the place of a connection to it."""
