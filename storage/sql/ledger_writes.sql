-- name: put_head
-- Moves a head forward. The epoch is never lowered: whoever raised it meanwhile has his way.
INSERT INTO chain_head (tenant_id, seq, receipt_hash, ts_us, frontier, epoch)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id) DO UPDATE SET
    seq = excluded.seq,
    receipt_hash = excluded.receipt_hash,
    ts_us = excluded.ts_us,
    frontier = excluded.frontier,
    epoch = CASE
        WHEN excluded.epoch > chain_head.epoch THEN excluded.epoch ELSE chain_head.epoch
    END;

-- name: raise_epoch
-- Makes every decision in flight of a tenant stale.
INSERT INTO chain_head (tenant_id, seq, receipt_hash, ts_us, frontier, epoch)
VALUES ($1, 0, '', 0, '', 1)
ON CONFLICT (tenant_id) DO UPDATE SET epoch = chain_head.epoch + 1
RETURNING epoch;

-- name: put_run_head
-- Sets version and state of an agent's run, raised by this batch.
INSERT INTO run_head (tenant_id, agent_id, version, state)
VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, agent_id) DO UPDATE SET
    version = excluded.version,
    state = excluded.state;

-- name: put_bucket
-- What a limit has counted by the end of this batch.
INSERT INTO limit_bucket (tenant_id, limit_id, bucket, state, until_us)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, limit_id, bucket) DO UPDATE SET
    state = excluded.state,
    until_us = excluded.until_us;

-- name: put_tool_pin
-- What a tool is pinned to, and what was last seen of it: one version after the one that stands, or
-- the first; any other changes no row.
INSERT INTO tool_pin (
    tenant_id, upstream, tool, version, definition, sha256, at_us, seen, seen_sha256, seen_at_us
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (tenant_id, upstream, tool) DO UPDATE SET
    version = excluded.version,
    definition = excluded.definition,
    sha256 = excluded.sha256,
    at_us = excluded.at_us,
    seen = excluded.seen,
    seen_sha256 = excluded.seen_sha256,
    seen_at_us = excluded.seen_at_us
WHERE tool_pin.version = excluded.version - 1;

-- name: drop_tool_pin
-- A tool that is pinned to nothing any more; if its pin is another by now, no row is changed.
DELETE FROM tool_pin
WHERE (tenant_id = $1 AND upstream = $2 AND tool = $3 AND version = $4);

-- name: drop_idle_buckets
-- Job across tenants: forgets buckets that say nothing any more, a few at a time. The condition
-- stands outside too: a bucket that was used meanwhile stays.
DELETE FROM limit_bucket
WHERE until_us < $1 AND (tenant_id, limit_id, bucket) IN (
    SELECT idle.tenant_id, idle.limit_id, idle.bucket
    FROM limit_bucket AS idle
    WHERE idle.until_us < $1
    LIMIT $2
)
RETURNING 1;

-- name: insert_receipt
-- Appends a sealed receipt.
INSERT INTO receipts (
    tenant_id, seq, kind, event_id, call_id, ts_us, agent_id, user_id, run_id, trace_id,
    upstream, tool, action, resource, source_trust, decision, mode, rule_id, rule_hash,
    policy_revision, approval_id, approver, action_hash, request_sha256, args_commitment,
    outcome, http_status, receipt_hash
) VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
    $11, $12, $13, $14, $15, $16, $17, $18, $19,
    $20, $21, $22, $23, $24, $25,
    $26, $27, $28
);

-- name: insert_short_receipt
-- Appends a sealed receipt that says nothing but how a call ended: half of all receipts, and most
-- of what inserting one costs is its columns.
INSERT INTO receipts (
    tenant_id, seq, kind, event_id, call_id, ts_us, agent_id, outcome, http_status, receipt_hash
) VALUES (
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
);

-- name: insert_call_facts
-- The erasable facts beside a receipt.
INSERT INTO call_facts (tenant_id, seq, salt, arguments, facts)
VALUES ($1, $2, $3, $4, $5);

-- name: insert_open_intent
-- An intent whose outcome is still to come.
INSERT INTO open_intent (tenant_id, call_id, node_id, boot_id)
VALUES ($1, $2, $3, $4);

-- name: delete_open_intent
-- The outcome has come. Changes no row if somebody recorded it already.
DELETE FROM open_intent WHERE (tenant_id = $1 AND call_id = $2);

-- name: begin_entry
-- One entry of a batch that is recorded carefully.
SAVEPOINT one_entry;

-- name: undo_entry
-- Takes back the entry, and only the entry.
ROLLBACK TO SAVEPOINT one_entry;

-- name: end_entry
-- Ends the entry, kept or taken back.
RELEASE SAVEPOINT one_entry;
