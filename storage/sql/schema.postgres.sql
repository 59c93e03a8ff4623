-- name: server_schema
-- Our tables with their columns, and whatever hangs on them: constraints, indexes, triggers,
-- rules, policies and children, in the words of the server's own catalogue. $1 is a JSON list of
-- the tables: others in the same schema are none of ours. Only PostgreSQL has policies, and each
-- engine keeps its catalogue in its own place.
WITH ours AS (
    SELECT c.oid, c.relname::text AS name, n.nspname::text AS schema, c.relkind, c.relpersistence,
        c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND c.relname IN (SELECT jsonb_array_elements_text($1::jsonb))
)
SELECT
    CASE ours.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view'
        WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END AS kind,
    ours.name, ours.name AS table_name,
    CASE ours.relpersistence WHEN 'p' THEN 'logged' ELSE 'not logged' END
        || CASE WHEN ours.relrowsecurity THEN ' with row security on' ELSE ' with row security off' END
        || CASE WHEN ours.relforcerowsecurity THEN ' and forced' ELSE '' END AS text,
    a.attname::text AS column_name,
    format_type(a.atttypid, a.atttypmod)
        || CASE WHEN a.attcollation <> t.typcollation
            THEN ' COLLATE ' || (SELECT l.collname::text FROM pg_collation l WHERE l.oid = a.attcollation)
            ELSE '' END
        || CASE WHEN a.attidentity <> '' OR a.attgenerated <> '' THEN ' GENERATED' ELSE '' END
        AS type,
    a.attnotnull::int::bigint AS is_not_null,
    pg_get_expr(d.adbin, d.adrelid) AS default_text,
    0::bigint AS key_part
FROM ours
JOIN pg_attribute a ON a.attrelid = ours.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
UNION ALL
SELECT 'constraint', o.conname::text, ours.name, pg_get_constraintdef(o.oid)
        || CASE WHEN x.indisvalid IS FALSE THEN ' (its index is not valid)' ELSE '' END,
    NULL, NULL, NULL, NULL, NULL
FROM ours
JOIN pg_constraint o ON o.conrelid = ours.oid AND o.contype <> 'n'
LEFT JOIN pg_index x ON x.indexrelid = o.conindid
UNION ALL
SELECT
    CASE WHEN NOT x.indisunique AND x.indexprs IS NULL AND x.indpred IS NULL AND x.indisvalid
        THEN 'plain index' ELSE 'index' END,
    i.relname::text, ours.name,
    replace(pg_get_indexdef(i.oid), quote_ident(ours.schema) || '.', '')
        || CASE WHEN x.indisvalid AND x.indisready THEN '' ELSE ' (not valid)' END,
    NULL, NULL, NULL, NULL, NULL
FROM ours
JOIN pg_index x ON x.indrelid = ours.oid
JOIN pg_class i ON i.oid = x.indexrelid
WHERE NOT EXISTS (SELECT 1 FROM pg_constraint o WHERE o.conindid = i.oid AND o.conrelid = ours.oid)
UNION ALL
SELECT 'trigger', g.tgname::text, ours.name,
    replace(pg_get_triggerdef(g.oid), quote_ident(ours.schema) || '.', '')
        || ' enabled ' || g.tgenabled::text,
    NULL, NULL, NULL, NULL, NULL
FROM ours
JOIN pg_trigger g ON g.tgrelid = ours.oid AND NOT g.tgisinternal
UNION ALL
SELECT 'rule', w.rulename::text, ours.name, pg_get_ruledef(w.oid), NULL, NULL, NULL, NULL, NULL
FROM ours
JOIN pg_rewrite w ON w.ev_class = ours.oid AND w.rulename <> '_RETURN'
UNION ALL
SELECT 'policy', p.polname::text, ours.name,
    CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END
        || ' for ' || CASE p.polcmd WHEN '*' THEN 'all' ELSE p.polcmd::text END
        || ' to ' || CASE WHEN p.polroles = '{0}' THEN 'everybody' ELSE 'some roles' END
        || ' using ' || coalesce(pg_get_expr(p.polqual, p.polrelid), 'nothing')
        || ' check ' || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'the same'),
    NULL, NULL, NULL, NULL, NULL
FROM ours
JOIN pg_policy p ON p.polrelid = ours.oid
UNION ALL
SELECT 'child', c.relname::text, ours.name, 'inherits', NULL, NULL, NULL, NULL, NULL
FROM ours
JOIN pg_inherits h ON h.inhparent = ours.oid
JOIN pg_class c ON c.oid = h.inhrelid
ORDER BY 1, 2, 3;
