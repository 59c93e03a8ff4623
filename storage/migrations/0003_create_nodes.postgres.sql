-- Who writes to this server, and until when each may be taken for alive, by the server's clock.
-- What a node left open is closed by another only after its lease has run out.
CREATE TABLE nodes (
    node_id TEXT NOT NULL PRIMARY KEY,
    boot_id TEXT NOT NULL,
    lease_until_us BIGINT NOT NULL
);
