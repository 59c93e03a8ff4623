-- The second wall, as around the other tables whose rows belong to somebody.
ALTER TABLE agent ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON agent USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
ALTER TABLE api_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_key FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON api_key USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
ALTER TABLE approval ENABLE ROW LEVEL SECURITY;
ALTER TABLE approval FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON approval USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
ALTER TABLE audit_event ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_event FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON audit_event USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
