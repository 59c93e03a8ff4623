-- name: put_said_once
-- What an agent said now and may not say again: the first of its name, or one version after a row
-- whose time is over; any other changes no row.
INSERT INTO said_once (tenant_id, agent_id, kind, name, version, bound, call_id, until_us)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id, agent_id, kind, name) DO UPDATE SET
    version = excluded.version,
    bound = excluded.bound,
    call_id = excluded.call_id,
    until_us = excluded.until_us
WHERE said_once.version = excluded.version - 1;

-- name: said_once
-- What an agent said of this kind and name.
SELECT tenant_id, agent_id, kind, name, version, bound, call_id, until_us
FROM said_once
WHERE tenant_id = $1 AND agent_id = $2 AND kind = $3 AND name = $4;

-- name: forget_said
-- Forgets some of what a tenant's agents said so long ago that it says nothing any more. The
-- condition stands outside too: what was said again meanwhile stays.
DELETE FROM said_once
WHERE tenant_id = $1 AND until_us < $2 AND (agent_id, kind, name) IN (
    SELECT old.agent_id, old.kind, old.name
    FROM said_once AS old
    WHERE old.tenant_id = $1 AND old.until_us < $2
    ORDER BY old.until_us
    LIMIT $3
)
RETURNING 1;

-- name: move_said_once
-- Job across tenants: what agents said once, over or not.
SELECT tenant_id, agent_id, kind, name, version, bound, call_id, until_us FROM said_once;

-- name: count_said_once
-- Job across tenants: what agents said once and is not forgotten.
SELECT count(*) FROM said_once;
