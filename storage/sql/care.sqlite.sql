-- name: schema_objects
-- Tables with their columns, indexes, triggers and views as they are. Only SQLite keeps the text
-- each was made with, which is what they are compared by.
SELECT m.type, m.name, m.tbl_name, m.sql, c.name, c.type, c."notnull", c.dflt_value, c.pk
FROM sqlite_master m
LEFT JOIN pragma_table_xinfo(m.name) c ON m.type = 'table'
WHERE substr(m.name, 1, 7) <> 'sqlite_'
ORDER BY m.type, m.name, c.cid;

-- name: overwrite_deleted
-- What is deleted from now on is overwritten in the file; PostgreSQL leaves that to VACUUM.
PRAGMA secure_delete = ON;
