-- What MCP servers said of their tools when that was first seen or last accepted, and what they say
-- since if that is something else. Changed only together with a receipt of its tenant.
CREATE TABLE tool_pin (
    tenant_id TEXT NOT NULL,
    upstream TEXT NOT NULL,
    tool TEXT NOT NULL,
    version BIGINT NOT NULL,
    definition TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    seen TEXT NOT NULL,
    seen_sha256 TEXT NOT NULL,
    seen_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, upstream, tool)
);
