-- The second wall, as around the other tables whose rows belong to somebody.
ALTER TABLE watch_mark ENABLE ROW LEVEL SECURITY;
ALTER TABLE watch_mark FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON watch_mark USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
ALTER TABLE watch_memory ENABLE ROW LEVEL SECURITY;
ALTER TABLE watch_memory FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON watch_memory USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
ALTER TABLE alert ENABLE ROW LEVEL SECURITY;
ALTER TABLE alert FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON alert USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
ALTER TABLE incident ENABLE ROW LEVEL SECURITY;
ALTER TABLE incident FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON incident USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
ALTER TABLE containment ENABLE ROW LEVEL SECURITY;
ALTER TABLE containment FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON containment USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
ALTER TABLE delivery ENABLE ROW LEVEL SECURITY;
ALTER TABLE delivery FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON delivery USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
