-- name: calls_page
-- Calls of a tenant, newest first, within a stretch of its chain, each with how it ended. '' asks
-- for any. The stretch bounds what is looked at, however rarely something fits.
SELECT
    page.tenant_id, page.seq, page.kind, page.event_id, page.call_id, page.ts_us, page.agent_id,
    page.user_id, page.run_id, page.trace_id, page.upstream, page.tool, page.action, page.resource,
    page.source_trust, page.decision, page.mode, page.rule_id, page.rule_hash,
    page.policy_revision, page.approval_id, page.approver, page.action_hash, page.request_sha256,
    page.args_commitment, page.outcome, page.http_status, page.receipt_hash,
    ended.seq, ended.ts_us, ended.outcome, ended.http_status
FROM (
    SELECT
        tenant_id, seq, kind, event_id, call_id, ts_us, agent_id, user_id, run_id, trace_id,
        upstream, tool, action, resource, source_trust, decision, mode, rule_id, rule_hash,
        policy_revision, approval_id, approver, action_hash, request_sha256, args_commitment,
        outcome, http_status, receipt_hash
    FROM receipts
    WHERE tenant_id = $1
        AND seq < $2
        AND seq >= $3
        AND (kind = 'intent' OR kind = 'refusal')
        AND (agent_id = $4 OR $4 = '')
        AND (tool = $5 OR $5 = '')
        AND (upstream = $6 OR $6 = '')
        AND (decision = $7 OR $7 = '')
        AND (rule_id = $8 OR $8 = '')
        AND ((kind = 'refusal' AND outcome = $9) OR $9 = '')
        AND (run_id = $10 OR $10 = '')
        AND (trace_id = $11 OR $11 = '')
        AND (approval_id = $12 OR $12 = '')
    ORDER BY seq DESC
    LIMIT $13
) AS page
LEFT JOIN receipts AS ended
    ON ended.tenant_id = page.tenant_id
    AND ended.call_id = page.call_id
    AND (ended.kind = 'outcome' OR ended.kind = 'recovery')
ORDER BY page.seq DESC;

-- name: calls_of_agent
-- An agent's calls, newest first, within a stretch of a tenant's chain, each with what is kept
-- beside it, if anything is.
SELECT
    page.call_id, page.seq, page.ts_us, page.kind, page.decision, page.mode, page.tool, f.facts
FROM (
    SELECT tenant_id, call_id, seq, ts_us, kind, decision, mode, tool
    FROM receipts
    WHERE tenant_id = $1
        AND seq <= $2
        AND seq > $3
        AND (kind = 'intent' OR kind = 'refusal')
        AND agent_id = $4
    ORDER BY seq DESC
    LIMIT $5
) AS page
LEFT JOIN call_facts AS f ON f.tenant_id = page.tenant_id AND f.seq = page.seq
ORDER BY page.seq DESC;

-- name: shadow_differences
-- Calls of a tenant that the rules in shadow would have decided otherwise, newest first, within a
-- stretch of its chain. What they would have decided is the last member of the facts, a JSON object
-- on one line; whatever stands before it, that a caller chose, cannot end so. In this order most
-- rows are looked through once or twice. The stretch is said of both tables, for a planner without
-- figures may begin with either.
SELECT
    r.call_id, r.seq, r.ts_us, r.agent_id, r.tool, r.decision, r.mode, r.rule_id,
    r.policy_revision, f.facts
FROM receipts r
JOIN call_facts f ON f.tenant_id = r.tenant_id AND f.seq = r.seq
WHERE r.tenant_id = $1
    AND r.seq <= $2
    AND r.seq > $3
    AND f.seq <= $2
    AND f.seq > $3
    AND (r.kind = 'intent' OR r.kind = 'refusal')
    AND CASE
        WHEN f.facts NOT LIKE '%"would_be":"%"}' THEN 0
        WHEN f.facts LIKE '%"would_be":"' || r.decision || '"}' THEN 0
        WHEN f.facts LIKE '%"would_be":"allow"}' THEN 1
        WHEN f.facts LIKE '%"would_be":"deny"}' THEN 1
        WHEN f.facts LIKE '%"would_be":"require_approval"}' THEN 1
        ELSE 0
    END = 1
ORDER BY r.seq DESC
LIMIT $4;

-- name: ends_of_chain
-- A tenant's head, and where its chain was cut ('' where it never was), in one go.
SELECT
    tenant_id, seq, receipt_hash, ts_us, frontier, epoch,
    COALESCE((SELECT value FROM store_state WHERE name = $2), '')
FROM chain_head
WHERE tenant_id = $1;

-- name: last_seq_before
-- The last receipt between two that was recorded before a time, found by halving in one go: times
-- never fall in a chain.
WITH RECURSIVE halving (low, high) AS (
    SELECT CAST($2 AS BIGINT), CAST($3 AS BIGINT)
    UNION ALL
    SELECT
        CASE WHEN (
            SELECT ts_us FROM receipts WHERE tenant_id = $1 AND seq = (low + high + 1) / 2
        ) < $4 THEN (low + high + 1) / 2 ELSE low END,
        CASE WHEN (
            SELECT ts_us FROM receipts WHERE tenant_id = $1 AND seq = (low + high + 1) / 2
        ) < $4 THEN high ELSE (low + high + 1) / 2 - 1 END
    FROM halving
    WHERE low < high
)
SELECT low FROM halving WHERE low >= high LIMIT 1;

-- name: count_calls
-- Calls within a stretch of a tenant's chain, by agent, tool and what was decided.
SELECT agent_id, tool, decision, kind, count(*)
FROM receipts
WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 AND (kind = 'intent' OR kind = 'refusal')
GROUP BY agent_id, tool, decision, kind
ORDER BY count(*) DESC
LIMIT $4;

-- name: audit_stretch
-- Where the next so many changes of state before a given one begin: what a page looks at.
SELECT min(seq)
FROM (
    SELECT seq FROM audit_event WHERE tenant_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3
) AS stretch;

-- name: audit_page
-- A tenant's changes of state within a stretch, newest first. '' asks for any.
SELECT tenant_id, seq, at_us, actor, action, subject, before_state, after_state, reason
FROM audit_event
WHERE tenant_id = $1
    AND seq < $2
    AND seq >= $3
    AND (actor = $4 OR $4 = '')
    AND (action = $5 OR $5 = '')
    AND (subject = $6 OR $6 = '')
    AND at_us >= $7
    AND at_us < $8
ORDER BY seq DESC
LIMIT $9;

-- name: audit_event
-- One change of state.
SELECT tenant_id, seq, at_us, actor, action, subject, before_state, after_state, reason
FROM audit_event
WHERE tenant_id = $1 AND seq = $2;

-- name: audit_between
-- The changes of state beside a stretch of a tenant's chain.
SELECT tenant_id, seq, at_us, actor, action, subject, before_state, after_state, reason
FROM audit_event
WHERE tenant_id = $1 AND seq > $2 AND seq <= $3
ORDER BY seq
LIMIT $4;

-- name: audit_end
-- The last change of state of a tenant.
SELECT max(seq) FROM audit_event WHERE tenant_id = $1;
