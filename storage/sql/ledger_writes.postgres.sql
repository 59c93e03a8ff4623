-- name: lock_heads
-- Heads of some tenants, a JSON list, each row locked to the end of the transaction, in one order
-- everywhere, so that two nodes cannot wait for each other.
SELECT tenant_id, seq, receipt_hash, ts_us, frontier, epoch
FROM chain_head
WHERE tenant_id IN (SELECT jsonb_array_elements_text($1::jsonb))
ORDER BY tenant_id
FOR UPDATE;

-- name: guard_heads
-- Whether heads still stand where this process left them, each row locked to the end of the
-- transaction. A head that another node moves meanwhile is waited for, and then stands elsewhere.
SELECT count(*) = pg_catalog.cardinality($1::text[]) AS holds
FROM (
    SELECT 1
    FROM chain_head
    JOIN unnest($1::text[], $2::bigint[], $3::text[], $4::bigint[])
        AS known (tenant_id, seq, receipt_hash, epoch)
        ON known.tenant_id = chain_head.tenant_id
    WHERE chain_head.tenant_id = ANY($1::text[])
        AND chain_head.seq = known.seq
        AND chain_head.receipt_hash = known.receipt_hash
        AND chain_head.epoch = known.epoch
    ORDER BY chain_head.tenant_id
    FOR UPDATE OF chain_head
) AS standing;

-- name: run_heads
-- Versions and states of some agents' runs, a JSON list of tenant and agent, for the guard.
SELECT run_head.tenant_id, run_head.agent_id, run_head.version, run_head.state
FROM jsonb_array_elements($1::jsonb) AS wanted (run), run_head
WHERE run_head.tenant_id = wanted.run ->> 0 AND run_head.agent_id = wanted.run ->> 1;

-- name: limit_buckets
-- States of some buckets, a JSON list of tenant, limit and bucket, and the moment by the server's
-- clock, which is one for all nodes. A bucket nobody has used is there too, with no state.
SELECT
    wanted.bucket ->> 0 AS tenant_id,
    wanted.bucket ->> 1 AS limit_id,
    wanted.bucket ->> 2 AS bucket,
    coalesce((
        SELECT found.state
        FROM limit_bucket found
        WHERE found.tenant_id = wanted.bucket ->> 0
            AND found.limit_id = wanted.bucket ->> 1
            AND found.bucket = wanted.bucket ->> 2
    ), '') AS state,
    (extract(epoch FROM clock_timestamp())::float8 * 1000000::float8)::bigint AS at_us
FROM jsonb_array_elements($1::jsonb) AS wanted (bucket);
