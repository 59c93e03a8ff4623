-- The ledger: one chain of receipts per tenant, and what stands beside it.
-- Keys are ordered by tenant and sequence, or by tenant and a time-ordered call id: pages that
-- are written to stay in the cache however large the tables grow. No index on a random value.

-- One row per tenant, locked while a batch is recorded. `epoch` guards decisions in flight.
CREATE TABLE chain_head (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL CHECK (seq >= 0),
    receipt_hash TEXT NOT NULL,
    ts_us BIGINT NOT NULL,
    frontier TEXT NOT NULL,
    epoch BIGINT NOT NULL
);

-- The primary key is what forbids a fork.
CREATE TABLE receipts (
    tenant_id TEXT NOT NULL,
    seq BIGINT NOT NULL CHECK (seq >= 1),
    -- One by one, the common ones first: SQLite builds a table for IN at every insert.
    kind TEXT NOT NULL CHECK (
        kind = 'intent' OR kind = 'outcome' OR kind = 'refusal'
        OR kind = 'recovery' OR kind = 'approval' OR kind = 'control'
    ),
    event_id TEXT NOT NULL,
    call_id TEXT,
    ts_us BIGINT NOT NULL,
    agent_id TEXT,
    user_id TEXT,
    run_id TEXT,
    trace_id TEXT,
    upstream TEXT,
    tool TEXT,
    action TEXT,
    resource TEXT,
    source_trust TEXT,
    decision TEXT,
    mode TEXT,
    rule_id TEXT,
    rule_hash TEXT,
    policy_revision TEXT,
    approval_id TEXT,
    approver TEXT,
    action_hash TEXT,
    request_sha256 TEXT,
    args_commitment TEXT,
    outcome TEXT,
    http_status BIGINT,
    receipt_hash TEXT NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);

-- A call begins once: an intent or a refusal.
CREATE UNIQUE INDEX receipts_call_begins ON receipts (tenant_id, call_id)
WHERE kind = 'intent' OR kind = 'refusal';

-- A call ends once: its outcome, recorded by us or found missing on recovery.
CREATE UNIQUE INDEX receipts_call_ends ON receipts (tenant_id, call_id)
WHERE kind = 'outcome' OR kind = 'recovery';

-- May be erased without breaking the chain.
CREATE TABLE call_facts (
    tenant_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    salt TEXT NOT NULL,
    arguments TEXT,
    facts TEXT NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);

-- Calls in flight: deleted with the outcome, found again by node and boot after a crash.
CREATE TABLE open_intent (
    tenant_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, call_id)
);

-- Guards decisions that looked at what an agent did before.
CREATE TABLE run_head (
    tenant_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
);

-- Named values of the store itself: the node's name, the probe's mark.
CREATE TABLE store_state (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);
