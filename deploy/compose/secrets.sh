#!/usr/bin/env bash
# Makes the secrets of compose.yaml, in deploy/.env beside it. A file that is there stays as it is:
# PostgreSQL and Grafana keep the passwords they were made with.
#
#   bash deploy/compose/secrets.sh [FILE]
set -euo pipefail
file=${1:-$(cd "$(dirname "$0")/.." && pwd)/.env}
if [ -e "$file" ]; then
    echo "secrets: $file is there already"
    exit 0
fi
umask 077
{
    for name in DEMO_AGENT_TOKEN OPERATOR_KEY POSTGRES_PASSWORD POSTGRES_AEGIS_PASSWORD GRAFANA_PASSWORD; do
        value=$(openssl rand -hex 24)
        echo "$name=$value"
    done
} >"$file.new"
mv "$file.new" "$file"
echo "secrets: made $file"
