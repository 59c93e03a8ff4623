-- name: set_scope
-- The tenants whose rows this connection may see, separated by the unit separator; * is for jobs,
-- and nothing for a connection that goes back to the pool.
SELECT set_config('aegis.tenants', $1, false);

-- name: server_state
-- What decides whether a server may be written to, and what its operator should know: version,
-- whether it only follows another, whether it takes writes and keeps what it promised, the
-- timeline (one more with each promotion), whether our role walks through row security, which
-- characters the database can hold, and in which schemas of the search path anybody may make things.
SELECT
    current_setting('server_version'),
    current_setting('server_version_num')::bigint,
    pg_is_in_recovery(),
    current_setting('transaction_read_only') = 'on',
    current_setting('synchronous_commit'),
    current_setting('fsync') = 'on' AND current_setting('full_page_writes') = 'on',
    CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
    END,
    rolsuper OR rolbypassrls,
    current_setting('server_encoding'),
    coalesce((
        SELECT string_agg(n.nspname::text, ', ')
        FROM pg_namespace n
        WHERE n.nspname = ANY(current_schemas(false))
            AND has_schema_privilege('public'::name, n.oid, 'CREATE'::text)
    ), '')
FROM pg_roles
WHERE rolname = current_user;

-- name: session_settings
-- What some settings of this session are, a JSON list of names, in the server's own units; only a
-- server has sessions.
SELECT name, setting FROM pg_settings
WHERE name IN (SELECT jsonb_array_elements_text($1::jsonb));

-- name: only_the_servers_own
-- From now on nothing is looked for in a schema that somebody may have written to.
SET search_path = pg_catalog;

-- name: types_in_use
-- One value of each type of our parameters and answers that a driver may not know by itself.
SELECT NULL::text[], NULL::bigint[], NULL::boolean[], NULL::integer[];

-- name: path_as_usual
-- The search path of the role, the database or the URL is in force again.
RESET search_path;

-- name: only_read
-- From now on this connection takes no writes; asked of a server that was seen to take them.
SELECT set_config('default_transaction_read_only', 'on', false);
