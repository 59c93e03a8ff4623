-- A commit writes every page it touches. Rows that stand in the tree of their own key need no second
-- tree that leads to them: two pages fewer a commit, and one search fewer a row. Receipts are short
-- enough for that, a quarter of a page at most nearly always; `call_facts` with its arguments is not.
CREATE TABLE receipts_by_key (
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
) WITHOUT ROWID;
INSERT INTO receipts_by_key SELECT * FROM receipts ORDER BY tenant_id, seq;
DROP TABLE receipts;
ALTER TABLE receipts_by_key RENAME TO receipts;

CREATE UNIQUE INDEX receipts_call_begins ON receipts (tenant_id, call_id)
WHERE kind = 'intent' OR kind = 'refusal';

CREATE UNIQUE INDEX receipts_call_ends ON receipts (tenant_id, call_id)
WHERE kind = 'outcome' OR kind = 'recovery';

CREATE TABLE open_intent_by_key (
    tenant_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    PRIMARY KEY (tenant_id, call_id)
) WITHOUT ROWID;
INSERT INTO open_intent_by_key SELECT * FROM open_intent ORDER BY tenant_id, call_id;
DROP TABLE open_intent;
ALTER TABLE open_intent_by_key RENAME TO open_intent;
