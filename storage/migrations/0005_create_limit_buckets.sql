-- What limits have counted that must hold across restarts and between nodes: text of the policies',
-- and until when it says anything. Changed only together with a receipt of its tenant.
CREATE TABLE limit_bucket (
    tenant_id TEXT NOT NULL,
    limit_id TEXT NOT NULL,
    bucket TEXT NOT NULL,
    state TEXT NOT NULL,
    until_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, limit_id, bucket)
);
