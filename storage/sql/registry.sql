-- name: put_agent
-- An agent's standing: one version after the one that stands, or the first; any other changes no
-- row.
INSERT INTO agent (tenant_id, agent_id, version, state, profile, token_sha256, changed_at_us)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, agent_id) DO UPDATE SET
    version = excluded.version,
    state = excluded.state,
    profile = excluded.profile,
    token_sha256 = excluded.token_sha256,
    changed_at_us = excluded.changed_at_us
WHERE agent.version = excluded.version - 1;

-- name: put_api_key
-- A key's standing, one version at a time.
INSERT INTO api_key (
    tenant_id, key_id, version, state, profile, key_sha256, expires_at_us, changed_at_us
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (tenant_id, key_id) DO UPDATE SET
    version = excluded.version,
    state = excluded.state,
    profile = excluded.profile,
    key_sha256 = excluded.key_sha256,
    expires_at_us = excluded.expires_at_us,
    changed_at_us = excluded.changed_at_us
WHERE api_key.version = excluded.version - 1;

-- name: put_approval
-- An approval, one version at a time; what was asked stays as it was.
INSERT INTO approval (
    tenant_id, approval_id, version, state, action_sha256, agent_id, call_id, tool, terms, asked,
    votes, asked_at_us, expires_at_us, changed_at_us, spent_by
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (tenant_id, approval_id) DO UPDATE SET
    version = excluded.version,
    state = excluded.state,
    votes = excluded.votes,
    changed_at_us = excluded.changed_at_us,
    spent_by = excluded.spent_by
WHERE approval.version = excluded.version - 1;

-- name: put_audit_event
-- Who changed what, beside the receipt that commits to it.
INSERT INTO audit_event (
    tenant_id, seq, at_us, actor, action, subject, before_state, after_state, reason
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (tenant_id, seq) DO NOTHING;

-- name: epochs
-- Job across tenants: the epoch of every tenant, to see which have changed.
SELECT tenant_id, epoch FROM chain_head;

-- name: agents
-- A tenant's agents.
SELECT tenant_id, agent_id, version, state, profile, token_sha256, changed_at_us
FROM agent
WHERE tenant_id = $1
ORDER BY agent_id;

-- name: api_keys
-- A tenant's keys.
SELECT tenant_id, key_id, version, state, profile, key_sha256, expires_at_us, changed_at_us
FROM api_key
WHERE tenant_id = $1
ORDER BY key_id;

-- name: approval
-- One approval.
SELECT
    tenant_id, approval_id, version, state, action_sha256, agent_id, call_id, tool, terms, asked,
    votes, asked_at_us, expires_at_us, changed_at_us, spent_by
FROM approval
WHERE tenant_id = $1 AND approval_id = $2;

-- name: approval_of_action
-- The one open approval of an action.
SELECT
    tenant_id, approval_id, version, state, action_sha256, agent_id, call_id, tool, terms, asked,
    votes, asked_at_us, expires_at_us, changed_at_us, spent_by
FROM approval
WHERE tenant_id = $1 AND action_sha256 = $2 AND (state = 'pending' OR state = 'approved');

-- name: approval_rejected_last
-- The last approval of an action that somebody rejected.
SELECT
    tenant_id, approval_id, version, state, action_sha256, agent_id, call_id, tool, terms, asked,
    votes, asked_at_us, expires_at_us, changed_at_us, spent_by
FROM approval
WHERE tenant_id = $1 AND action_sha256 = $2 AND state = 'rejected'
ORDER BY approval_id DESC
LIMIT 1;

-- name: open_approvals
-- A tenant's open approvals, the oldest first, after a given one.
SELECT
    tenant_id, approval_id, version, state, action_sha256, agent_id, call_id, tool, terms, asked,
    votes, asked_at_us, expires_at_us, changed_at_us, spent_by
FROM approval
WHERE tenant_id = $1 AND approval_id > $2 AND (state = 'pending' OR state = 'approved')
ORDER BY approval_id
LIMIT $3;

-- name: approvals_before
-- A tenant's approvals in any state, the newest first, before a given one.
SELECT
    tenant_id, approval_id, version, state, action_sha256, agent_id, call_id, tool, terms, asked,
    votes, asked_at_us, expires_at_us, changed_at_us, spent_by
FROM approval
WHERE tenant_id = $1 AND approval_id < $2
ORDER BY approval_id DESC
LIMIT $3;

-- name: approval_granted_before
-- The newest approval of an agent and a tool that got its yes, before a given one, of so many that
-- are looked at.
SELECT
    tenant_id, approval_id, version, state, action_sha256, agent_id, call_id, tool, terms, asked,
    votes, asked_at_us, expires_at_us, changed_at_us, spent_by
FROM (
    SELECT
        tenant_id, approval_id, version, state, action_sha256, agent_id, call_id, tool, terms,
        asked, votes, asked_at_us, expires_at_us, changed_at_us, spent_by
    FROM approval
    WHERE tenant_id = $1 AND approval_id < $2
    ORDER BY approval_id DESC
    LIMIT $5
) AS looked
WHERE agent_id = $3 AND tool = $4 AND (state = 'approved' OR state = 'spent')
ORDER BY approval_id DESC
LIMIT 1;

-- name: count_open_approvals
-- How many of a tenant's approvals are open, those of one agent. '' asks for any.
SELECT count(*) FROM approval
WHERE tenant_id = $1
    AND (state = 'pending' OR state = 'approved')
    AND (agent_id = $2 OR $2 = '');

-- name: audit_events
-- A tenant's changes of state, the newest first, before a given one. '' asks for any.
SELECT tenant_id, seq, at_us, actor, action, subject, before_state, after_state, reason
FROM audit_event
WHERE tenant_id = $1
    AND seq < $2
    AND (actor = $3 OR $3 = '')
    AND (action = $4 OR $4 = '')
    AND (subject = $5 OR $5 = '')
ORDER BY seq DESC
LIMIT $6;

-- name: move_agents
-- Job across tenants: agents whose standing the store keeps.
SELECT tenant_id, agent_id, version, state, profile, token_sha256, changed_at_us FROM agent;

-- name: move_api_keys
-- Job across tenants: keys, by their hashes.
SELECT tenant_id, key_id, version, state, profile, key_sha256, expires_at_us, changed_at_us
FROM api_key;

-- name: move_approvals
-- Job across tenants: approvals in any state.
SELECT
    tenant_id, approval_id, version, state, action_sha256, agent_id, call_id, tool, terms, asked,
    votes, asked_at_us, expires_at_us, changed_at_us, spent_by
FROM approval;

-- name: move_audit_events
-- Job across tenants: changes of state.
SELECT tenant_id, seq, at_us, actor, action, subject, before_state, after_state, reason
FROM audit_event;

-- name: count_agents
-- Job across tenants: agents whose standing is kept.
SELECT count(*) FROM agent;

-- name: count_api_keys
-- Job across tenants: keys in any state.
SELECT count(*) FROM api_key;

-- name: count_approvals
-- Job across tenants: approvals in any state.
SELECT count(*) FROM approval;

-- name: count_audit_events
-- Job across tenants: changes of state on record.
SELECT count(*) FROM audit_event;
