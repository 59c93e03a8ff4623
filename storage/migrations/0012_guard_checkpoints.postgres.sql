-- The second wall, as around the other tables whose rows belong to somebody.
ALTER TABLE checkpoint ENABLE ROW LEVEL SECURITY;
ALTER TABLE checkpoint FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON checkpoint USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
ALTER TABLE tree_tile ENABLE ROW LEVEL SECURITY;
ALTER TABLE tree_tile FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON tree_tile USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
