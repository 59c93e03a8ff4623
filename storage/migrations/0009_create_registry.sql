-- Who may call, who may look and decide, what waits for a person's yes, and who changed what. Each
-- row that has a version changes only together with a receipt of its tenant, one version at a time.

-- Agents whose standing or credential is not only the configuration's. `token_sha256` is '' without
-- a token of the store's; tokens themselves are kept nowhere.
CREATE TABLE agent (
    tenant_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    profile TEXT NOT NULL,
    token_sha256 TEXT NOT NULL,
    changed_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
);

-- Keys of people and services. `expires_at_us` is 0 for one that does not end by itself.
CREATE TABLE api_key (
    tenant_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    profile TEXT NOT NULL,
    key_sha256 TEXT NOT NULL,
    expires_at_us BIGINT NOT NULL,
    changed_at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
);

-- One exact action that waits for a yes, or got its answer. Ids begin with their time, so that the
-- newest stand at the end of the key.
CREATE TABLE approval (
    tenant_id TEXT NOT NULL,
    approval_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    action_sha256 TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    tool TEXT NOT NULL,
    terms TEXT NOT NULL,
    asked TEXT NOT NULL,
    votes TEXT NOT NULL,
    asked_at_us BIGINT NOT NULL,
    expires_at_us BIGINT NOT NULL,
    changed_at_us BIGINT NOT NULL,
    spent_by TEXT NOT NULL,
    PRIMARY KEY (tenant_id, approval_id)
);

-- An action waits once, however many calls of it there are; and there are few that are open.
CREATE UNIQUE INDEX approval_open ON approval (tenant_id, action_sha256)
WHERE state = 'pending' OR state = 'approved';

-- A no stands as long as the question would have.
CREATE INDEX approval_rejected ON approval (tenant_id, action_sha256)
WHERE state = 'rejected';

-- Changes of state, each beside the receipt that commits to it: who, what, before and after.
CREATE TABLE audit_event (
    tenant_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at_us BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    before_state TEXT NOT NULL,
    after_state TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (tenant_id, seq)
);
