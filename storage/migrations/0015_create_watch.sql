-- What is noticed in the record, what is done about it, and who is told. Rows change one version at
-- a time, like agents and approvals. Ids begin with their time.

-- How far somebody who reads the record has come, and which node reads for the tenant until when.
CREATE TABLE watch_mark (
    tenant_id TEXT NOT NULL,
    watcher TEXT NOT NULL,
    version BIGINT NOT NULL,
    node_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    until_us BIGINT NOT NULL,
    changed_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, watcher)
);

-- What a detection has to know of longer ago than it reads again after a start.
CREATE TABLE watch_memory (
    tenant_id TEXT NOT NULL,
    detection TEXT NOT NULL,
    subject TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    until_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, detection, subject)
);

-- Something a detection noticed, and the calls and receipts that show it.
CREATE TABLE alert (
    tenant_id TEXT NOT NULL,
    alert_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    detection TEXT NOT NULL,
    severity TEXT NOT NULL,
    subject TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    incident_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    hits BIGINT NOT NULL,
    evidence TEXT NOT NULL,
    notes TEXT NOT NULL,
    first_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    quiet_until_us BIGINT NOT NULL,
    changed_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, alert_id)
);

-- Those that later hits may still join.
CREATE INDEX alert_quiet ON alert (tenant_id, quiet_until_us);

CREATE INDEX alert_of_incident ON alert (tenant_id, incident_id) WHERE incident_id <> '';

-- Alerts that belong together, and what people did about them.
CREATE TABLE incident (
    tenant_id TEXT NOT NULL,
    incident_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    severity TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    title TEXT NOT NULL,
    notes TEXT NOT NULL,
    opened_us BIGINT NOT NULL,
    last_us BIGINT NOT NULL,
    changed_at_us BIGINT NOT NULL,
    alerts BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, incident_id)
);

CREATE INDEX incident_open ON incident (tenant_id, incident_id) WHERE state <> 'closed';

-- What live decisions are held to until it is undone or its time is over; 0 is no end.
CREATE TABLE containment (
    tenant_id TEXT NOT NULL,
    containment_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    incident_id TEXT NOT NULL,
    before_state TEXT NOT NULL,
    started_us BIGINT NOT NULL,
    until_us BIGINT NOT NULL,
    changed_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, containment_id)
);

-- The same thing is contained once.
CREATE UNIQUE INDEX containment_active ON containment (tenant_id, action, subject)
WHERE state = 'active';

-- What is to be told to somebody outside, put with what it tells of.
CREATE TABLE delivery (
    tenant_id TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    sink TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity BIGINT NOT NULL,
    body TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_us BIGINT NOT NULL,
    said TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    changed_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, delivery_id)
);

-- Sink by sink, so that those that answer do not wait for one that does not.
CREATE INDEX delivery_waiting ON delivery (tenant_id, sink, due_us) WHERE state = 'waiting';

CREATE INDEX delivery_dead ON delivery (tenant_id, delivery_id) WHERE state = 'dead';

CREATE INDEX delivery_told ON delivery (tenant_id, changed_at_us) WHERE state = 'delivered';
