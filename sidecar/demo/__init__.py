"""A small tool server (REST and MCP) and the scenario that the quickstart plays."""
