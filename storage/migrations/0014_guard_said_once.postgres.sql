-- The second wall, as around the other tables whose rows belong to somebody.
ALTER TABLE said_once ENABLE ROW LEVEL SECURITY;
ALTER TABLE said_once FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON said_once USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
