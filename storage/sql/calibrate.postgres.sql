-- name: engine_settings
-- What decides the cost of a commit, as the writer's own connection has it: name and value. Every
-- engine keeps its settings in its own place.
SELECT name, setting FROM pg_settings
WHERE name IN ('synchronous_commit', 'fsync', 'full_page_writes', 'wal_sync_method', 'block_size')
UNION ALL
SELECT 'server', coalesce(host(inet_server_addr()) || ':' || inet_server_port()::text, 'local');

-- name: make_scratch_schema
-- Where a scratch store lives: this server, none of the real tables.
CREATE SCHEMA aegis_calibration;

-- name: drop_scratch_schema
-- The scratch store, after a calibration or one that was killed.
DROP SCHEMA IF EXISTS aegis_calibration CASCADE;
