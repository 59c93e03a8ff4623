#!/usr/bin/env bash
# Run once by the image of PostgreSQL, as its superuser, when the folder is new: the sidecars get a
# role that owns their database and nothing else, so that row security holds for it too.
set -euo pipefail
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" \
    --dbname postgres --set password="${POSTGRES_AEGIS_PASSWORD:?}" <<'SQL'
CREATE ROLE aegis LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE aegis OWNER aegis ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE aegis FROM PUBLIC;
SQL
