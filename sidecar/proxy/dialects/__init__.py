"""One file per protocol: how a request becomes a ToolCall, and how a refusal is said."""
