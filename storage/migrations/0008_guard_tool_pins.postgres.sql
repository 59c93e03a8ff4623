-- The second wall, as around the other tables whose rows belong to somebody.
ALTER TABLE tool_pin ENABLE ROW LEVEL SECURITY;
ALTER TABLE tool_pin FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON tool_pin USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
