-- name: lock_heads
-- Heads of some tenants, a JSON list: SQLite has no arrays. The whole file is locked already.
SELECT tenant_id, seq, receipt_hash, ts_us, frontier, epoch
FROM chain_head
WHERE tenant_id IN (SELECT value FROM json_each($1))
ORDER BY tenant_id;

-- name: guard_heads
-- A row if a head still stands where this process left it, one head at a time: SQLite has no
-- arrays. The whole file is locked already.
SELECT 1 AS holds
FROM chain_head
WHERE tenant_id = $1 AND seq = $2 AND receipt_hash = $3 AND epoch = $4;

-- name: run_heads
-- Versions and states of some agents' runs, a JSON list of tenant and agent: SQLite has no arrays.
SELECT run_head.tenant_id, run_head.agent_id, run_head.version, run_head.state
FROM json_each($1) AS wanted, run_head
WHERE run_head.tenant_id = json_extract(wanted.value, '$[0]')
    AND run_head.agent_id = json_extract(wanted.value, '$[1]');

-- name: limit_buckets
-- States of some buckets, a JSON list of tenant, limit and bucket: SQLite has no arrays, and a file
-- has no clock of its own. A bucket nobody has used is there too, with no state.
SELECT
    json_extract(wanted.value, '$[0]') AS tenant_id,
    json_extract(wanted.value, '$[1]') AS limit_id,
    json_extract(wanted.value, '$[2]') AS bucket,
    coalesce((
        SELECT found.state
        FROM limit_bucket found
        WHERE found.tenant_id = json_extract(wanted.value, '$[0]')
            AND found.limit_id = json_extract(wanted.value, '$[1]')
            AND found.bucket = json_extract(wanted.value, '$[2]')
    ), '') AS state,
    NULL AS at_us
FROM json_each($1) AS wanted;
