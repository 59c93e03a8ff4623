-- What an agent may say only once: ids of its requests, and nonces. Each row stands or falls with
-- the receipt of the call that said it first; `bound` is a hash of what it was said with. A row says
-- nothing any more after its time, and goes.
CREATE TABLE said_once (
    tenant_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    bound TEXT NOT NULL,
    call_id TEXT NOT NULL,
    until_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, kind, name)
);

-- To forget a tenant's oldest without looking at all of them; times only grow.
CREATE INDEX said_once_ends ON said_once (tenant_id, until_us);
