-- name: put_watch_mark
-- How far a watcher has come: the first, or one version after what stands; any other changes no
-- row.
INSERT INTO watch_mark (tenant_id, watcher, version, node_id, seq, until_us, changed_at_us)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (tenant_id, watcher) DO UPDATE SET
    version = excluded.version,
    node_id = excluded.node_id,
    seq = excluded.seq,
    until_us = excluded.until_us,
    changed_at_us = excluded.changed_at_us
WHERE watch_mark.version = excluded.version - 1;

-- name: put_watch_memory
-- What a detection remembers, one version at a time.
INSERT INTO watch_memory (tenant_id, detection, subject, version, state, until_us)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, detection, subject) DO UPDATE SET
    version = excluded.version,
    state = excluded.state,
    until_us = excluded.until_us
WHERE watch_memory.version = excluded.version - 1;

-- name: put_alert
-- An alert, one version at a time; what it was raised for stays as it was.
INSERT INTO alert (
    tenant_id, alert_id, version, state, detection, severity, subject, agent_id, run_id,
    incident_id, reason, hits, evidence, notes, first_us, last_us, quiet_until_us, changed_at_us
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT (tenant_id, alert_id) DO UPDATE SET
    version = excluded.version,
    state = excluded.state,
    severity = excluded.severity,
    incident_id = excluded.incident_id,
    reason = excluded.reason,
    hits = excluded.hits,
    evidence = excluded.evidence,
    notes = excluded.notes,
    last_us = excluded.last_us,
    quiet_until_us = excluded.quiet_until_us,
    changed_at_us = excluded.changed_at_us
WHERE alert.version = excluded.version - 1;

-- name: put_incident
-- An incident, one version at a time; whom it is about stays as it was.
INSERT INTO incident (
    tenant_id, incident_id, version, state, severity, agent_id, run_id, title, notes, opened_us,
    last_us, changed_at_us, alerts
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (tenant_id, incident_id) DO UPDATE SET
    version = excluded.version,
    state = excluded.state,
    severity = excluded.severity,
    run_id = excluded.run_id,
    title = excluded.title,
    notes = excluded.notes,
    last_us = excluded.last_us,
    changed_at_us = excluded.changed_at_us,
    alerts = excluded.alerts
WHERE incident.version = excluded.version - 1;

-- name: put_containment
-- A containment, one version at a time; what it contains stays as it was.
INSERT INTO containment (
    tenant_id, containment_id, version, state, action, subject, reason, actor, incident_id,
    before_state, started_us, until_us, changed_at_us
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (tenant_id, containment_id) DO UPDATE SET
    version = excluded.version,
    state = excluded.state,
    reason = excluded.reason,
    incident_id = excluded.incident_id,
    until_us = excluded.until_us,
    changed_at_us = excluded.changed_at_us
WHERE containment.version = excluded.version - 1;

-- name: put_delivery
-- What is to be told, one version at a time; what and whom stays as it was.
INSERT INTO delivery (
    tenant_id, delivery_id, version, state, sink, kind, severity, body, attempts, due_us, said,
    created_us, changed_at_us
) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (tenant_id, delivery_id) DO UPDATE SET
    version = excluded.version,
    state = excluded.state,
    attempts = excluded.attempts,
    due_us = excluded.due_us,
    said = excluded.said,
    changed_at_us = excluded.changed_at_us
WHERE delivery.version = excluded.version - 1;

-- name: watch_mark
-- How far a watcher has come with a tenant's record.
SELECT tenant_id, watcher, version, node_id, seq, until_us, changed_at_us
FROM watch_mark
WHERE tenant_id = $1 AND watcher = $2;

-- name: watch_memories
-- What a tenant's detections remember.
SELECT tenant_id, detection, subject, version, state, until_us
FROM watch_memory
WHERE tenant_id = $1 AND (detection, subject) > ($2, $3)
ORDER BY detection, subject
LIMIT $4;

-- name: forget_memories
-- Forgets some of what says nothing any more.
DELETE FROM watch_memory
WHERE tenant_id = $1 AND until_us < $2 AND (detection, subject) IN (
    SELECT old.detection, old.subject
    FROM watch_memory AS old
    WHERE old.tenant_id = $1 AND old.until_us < $2
    LIMIT $3
)
RETURNING 1;

-- name: recorded_after
-- Receipts of a tenant after a given one, oldest first, each with its facts if they are kept.
SELECT
    r.tenant_id, r.seq, r.kind, r.event_id, r.call_id, r.ts_us, r.agent_id, r.user_id, r.run_id,
    r.trace_id, r.upstream, r.tool, r.action, r.resource, r.source_trust, r.decision, r.mode,
    r.rule_id, r.rule_hash, r.policy_revision, r.approval_id, r.approver, r.action_hash,
    r.request_sha256, r.args_commitment, r.outcome, r.http_status, r.receipt_hash,
    f.salt, f.arguments, f.facts
FROM receipts AS r
LEFT JOIN call_facts AS f ON f.tenant_id = r.tenant_id AND f.seq = r.seq
WHERE r.tenant_id = $1 AND r.seq > $2
ORDER BY r.seq
LIMIT $3;

-- name: alert
-- One alert.
SELECT
    tenant_id, alert_id, version, state, detection, severity, subject, agent_id, run_id,
    incident_id, reason, hits, evidence, notes, first_us, last_us, quiet_until_us, changed_at_us
FROM alert
WHERE tenant_id = $1 AND alert_id = $2;

-- name: alerts_quiet
-- A tenant's alerts that later hits may still join.
SELECT
    tenant_id, alert_id, version, state, detection, severity, subject, agent_id, run_id,
    incident_id, reason, hits, evidence, notes, first_us, last_us, quiet_until_us, changed_at_us
FROM alert
WHERE tenant_id = $1 AND quiet_until_us > $2
ORDER BY quiet_until_us DESC
LIMIT $3;

-- name: alerts_before
-- A tenant's alerts, the newest first, before a given one. '' asks for any.
SELECT
    tenant_id, alert_id, version, state, detection, severity, subject, agent_id, run_id,
    incident_id, reason, hits, evidence, notes, first_us, last_us, quiet_until_us, changed_at_us
FROM alert
WHERE tenant_id = $1
    AND alert_id < $2
    AND (state = $3 OR $3 = '')
    AND (severity = $4 OR $4 = '')
    AND (detection = $5 OR $5 = '')
    AND (agent_id = $6 OR $6 = '')
ORDER BY alert_id DESC
LIMIT $7;

-- name: alerts_of_incident
-- The alerts of an incident, oldest first, after a given one.
SELECT
    tenant_id, alert_id, version, state, detection, severity, subject, agent_id, run_id,
    incident_id, reason, hits, evidence, notes, first_us, last_us, quiet_until_us, changed_at_us
FROM alert
WHERE tenant_id = $1 AND incident_id = $2 AND incident_id <> '' AND alert_id > $3
ORDER BY alert_id
LIMIT $4;

-- name: control_subjects
-- What receipts of the kind control are about, within a stretch of the chain.
SELECT seq, resource
FROM receipts
WHERE tenant_id = $1 AND seq > $2 AND seq <= $3 AND kind = 'control' AND resource IS NOT NULL
ORDER BY seq;

-- name: tally_alerts
-- How many alerts a tenant has, by state and severity.
SELECT state, severity, count(*) AS alerts
FROM alert
WHERE tenant_id = $1
GROUP BY state, severity
ORDER BY state, severity;

-- name: tally_incidents
-- How many incidents a tenant has, by state and severity.
SELECT state, severity, count(*) AS incidents
FROM incident
WHERE tenant_id = $1
GROUP BY state, severity
ORDER BY state, severity;

-- name: incident
-- One incident.
SELECT
    tenant_id, incident_id, version, state, severity, agent_id, run_id, title, notes, opened_us,
    last_us, changed_at_us, alerts
FROM incident
WHERE tenant_id = $1 AND incident_id = $2;

-- name: open_incidents
-- A tenant's incidents that are not closed, the newest first.
SELECT
    tenant_id, incident_id, version, state, severity, agent_id, run_id, title, notes, opened_us,
    last_us, changed_at_us, alerts
FROM incident
WHERE tenant_id = $1 AND state <> 'closed'
ORDER BY incident_id DESC
LIMIT $2;

-- name: incidents_before
-- A tenant's incidents, the newest first, before a given one. '' asks for any.
SELECT
    tenant_id, incident_id, version, state, severity, agent_id, run_id, title, notes, opened_us,
    last_us, changed_at_us, alerts
FROM incident
WHERE tenant_id = $1
    AND incident_id < $2
    AND (state = $3 OR $3 = '')
    AND (severity = $4 OR $4 = '')
    AND (agent_id = $5 OR $5 = '')
ORDER BY incident_id DESC
LIMIT $6;

-- name: containment
-- One containment.
SELECT
    tenant_id, containment_id, version, state, action, subject, reason, actor, incident_id,
    before_state, started_us, until_us, changed_at_us
FROM containment
WHERE tenant_id = $1 AND containment_id = $2;

-- name: active_containments
-- What a tenant's decisions are held to, over or not, for as long as it is active.
SELECT
    tenant_id, containment_id, version, state, action, subject, reason, actor, incident_id,
    before_state, started_us, until_us, changed_at_us
FROM containment
WHERE tenant_id = $1 AND state = 'active'
ORDER BY containment_id;

-- name: containments_before
-- A tenant's containments, the newest first, before a given one. '' asks for any.
SELECT
    tenant_id, containment_id, version, state, action, subject, reason, actor, incident_id,
    before_state, started_us, until_us, changed_at_us
FROM containment
WHERE tenant_id = $1
    AND containment_id < $2
    AND (state = $3 OR $3 = '')
    AND (action = $4 OR $4 = '')
ORDER BY containment_id DESC
LIMIT $5;

-- name: delivery
-- One delivery.
SELECT
    tenant_id, delivery_id, version, state, sink, kind, severity, body, attempts, due_us, said,
    created_us, changed_at_us
FROM delivery
WHERE tenant_id = $1 AND delivery_id = $2;

-- name: deliveries_due
-- What a sink is to be told by now, what is due longest first.
SELECT
    tenant_id, delivery_id, version, state, sink, kind, severity, body, attempts, due_us, said,
    created_us, changed_at_us
FROM delivery
WHERE tenant_id = $1 AND sink = $2 AND state = 'waiting' AND due_us <= $3
ORDER BY due_us, delivery_id
LIMIT $4;

-- name: sinks_due
-- Job across tenants: whose deliveries to which sinks are due.
SELECT tenant_id, sink
FROM delivery
WHERE state = 'waiting' AND due_us <= $1
GROUP BY tenant_id, sink
ORDER BY tenant_id, sink;

-- name: deliveries_least
-- What of a tenant's waiting deliveries matters least: the least severe, of those the oldest.
SELECT
    tenant_id, delivery_id, version, state, sink, kind, severity, body, attempts, due_us, said,
    created_us, changed_at_us
FROM delivery
WHERE tenant_id = $1 AND state = 'waiting'
ORDER BY severity, created_us, delivery_id
LIMIT $2;

-- name: deliveries_before
-- A tenant's deliveries, the newest first, before a given one. '' asks for any.
SELECT
    tenant_id, delivery_id, version, state, sink, kind, severity, body, attempts, due_us, said,
    created_us, changed_at_us
FROM delivery
WHERE tenant_id = $1
    AND delivery_id < $2
    AND (state = $3 OR $3 = '')
    AND (sink = $4 OR $4 = '')
ORDER BY delivery_id DESC
LIMIT $5;

-- name: count_open_deliveries
-- How many of a tenant's deliveries wait, and how many are given up, by sink.
SELECT tenant_id, sink, state, count(*) AS deliveries, min(created_us) AS oldest_us
FROM delivery
WHERE tenant_id = $1 AND state = 'waiting'
GROUP BY tenant_id, sink, state
UNION ALL
SELECT tenant_id, sink, state, count(*) AS deliveries, min(created_us) AS oldest_us
FROM delivery
WHERE tenant_id = $1 AND state = 'dead'
GROUP BY tenant_id, sink, state
ORDER BY sink, state;

-- name: count_every_open_delivery
-- Job across tenants: how many deliveries wait, and how many are given up, by tenant and sink.
SELECT tenant_id, sink, state, count(*) AS deliveries, min(created_us) AS oldest_us
FROM delivery
WHERE state = 'waiting'
GROUP BY tenant_id, sink, state
UNION ALL
SELECT tenant_id, sink, state, count(*) AS deliveries, min(created_us) AS oldest_us
FROM delivery
WHERE state = 'dead'
GROUP BY tenant_id, sink, state
ORDER BY tenant_id, sink, state;

-- name: forget_dead
-- Forgets some of what was given up before a time.
DELETE FROM delivery
WHERE tenant_id = $1 AND state = 'dead' AND changed_at_us < $2 AND delivery_id IN (
    SELECT old.delivery_id
    FROM delivery AS old
    WHERE old.tenant_id = $1 AND old.state = 'dead' AND old.changed_at_us < $2
    ORDER BY old.delivery_id
    LIMIT $3
)
RETURNING 1;

-- name: forget_oldest_dead
-- Forgets the oldest of what was given up.
DELETE FROM delivery
WHERE tenant_id = $1 AND state = 'dead' AND delivery_id IN (
    SELECT old.delivery_id
    FROM delivery AS old
    WHERE old.tenant_id = $1 AND old.state = 'dead'
    ORDER BY old.delivery_id
    LIMIT $2
)
RETURNING 1;

-- name: forget_delivered
-- Forgets some of what was told before a time.
DELETE FROM delivery
WHERE tenant_id = $1 AND state = 'delivered' AND changed_at_us < $2 AND delivery_id IN (
    SELECT old.delivery_id
    FROM delivery AS old
    WHERE old.tenant_id = $1 AND old.state = 'delivered' AND old.changed_at_us < $2
    ORDER BY old.changed_at_us
    LIMIT $3
)
RETURNING 1;

-- name: move_watch_marks
-- Job across tenants: all rows of watch_mark.
SELECT tenant_id, watcher, version, node_id, seq, until_us, changed_at_us
FROM watch_mark;

-- name: move_watch_memories
-- Job across tenants: all rows of watch_memory.
SELECT tenant_id, detection, subject, version, state, until_us
FROM watch_memory;

-- name: move_alerts
-- Job across tenants: all rows of alert.
SELECT
    tenant_id, alert_id, version, state, detection, severity, subject, agent_id, run_id,
    incident_id, reason, hits, evidence, notes, first_us, last_us, quiet_until_us, changed_at_us
FROM alert;

-- name: move_incidents
-- Job across tenants: all rows of incident.
SELECT
    tenant_id, incident_id, version, state, severity, agent_id, run_id, title, notes, opened_us,
    last_us, changed_at_us, alerts
FROM incident;

-- name: move_containments
-- Job across tenants: all rows of containment.
SELECT
    tenant_id, containment_id, version, state, action, subject, reason, actor, incident_id,
    before_state, started_us, until_us, changed_at_us
FROM containment;

-- name: move_deliveries
-- Job across tenants: all rows of delivery.
SELECT
    tenant_id, delivery_id, version, state, sink, kind, severity, body, attempts, due_us, said,
    created_us, changed_at_us
FROM delivery;

-- name: count_watch_marks
-- Job across tenants: how many rows watch_mark has.
SELECT count(*) FROM watch_mark;

-- name: count_watch_memories
-- Job across tenants: how many rows watch_memory has.
SELECT count(*) FROM watch_memory;

-- name: count_alerts
-- Job across tenants: how many rows alert has.
SELECT count(*) FROM alert;

-- name: count_incidents
-- Job across tenants: how many rows incident has.
SELECT count(*) FROM incident;

-- name: count_containments
-- Job across tenants: how many rows containment has.
SELECT count(*) FROM containment;

-- name: count_deliveries
-- Job across tenants: how many rows delivery has.
SELECT count(*) FROM delivery;
