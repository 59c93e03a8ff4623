-- name: renew_lease
-- This node lives, for so many microseconds more. No row comes back if another boot of a node of
-- this name is alive: two processes must not share one name.
INSERT INTO nodes (node_id, boot_id, lease_until_us)
VALUES ($1, $2, (extract(epoch FROM clock_timestamp())::float8 * 1000000::float8)::bigint + $3)
ON CONFLICT (node_id) DO UPDATE SET
    boot_id = excluded.boot_id,
    lease_until_us = excluded.lease_until_us
WHERE nodes.boot_id = excluded.boot_id
    OR nodes.lease_until_us < (extract(epoch FROM clock_timestamp())::float8 * 1000000::float8)::bigint
RETURNING lease_until_us;

-- name: end_lease
-- This boot stops in order: what it left open may be closed at once.
DELETE FROM nodes WHERE node_id = $1 AND boot_id = $2;

-- name: dead_nodes
-- Job across tenants: nodes with calls in flight that nobody can take for alive any more.
SELECT DISTINCT o.node_id
FROM open_intent o
LEFT JOIN nodes n ON n.node_id = o.node_id
WHERE o.node_id <> $1
    AND (
        n.node_id IS NULL
        OR n.lease_until_us < (extract(epoch FROM clock_timestamp())::float8 * 1000000::float8)::bigint
    );

-- name: living_nodes
-- Nodes that must be taken for alive: nothing may be moved under them.
SELECT node_id FROM nodes
WHERE lease_until_us >= (extract(epoch FROM clock_timestamp())::float8 * 1000000::float8)::bigint
ORDER BY node_id;

-- name: take_job
-- One job of a kind, by its number, at a time in a database; held until the connection ends.
SELECT pg_try_advisory_lock($1::bigint);

-- name: server_clock
-- The moment by the one clock that all nodes share, in microseconds.
SELECT (extract(epoch FROM clock_timestamp())::float8 * 1000000::float8)::bigint;
