-- A second wall behind the WHERE of every statement: a connection sees the rows of the tenants it
-- has named (`aegis.tenants`, separated by the unit separator), * is for jobs across tenants, and
-- one that has named nobody sees nothing. FORCE, because the sidecar may own its tables.
-- A superuser walks through this wall: give the sidecar a role of its own.
ALTER TABLE chain_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE chain_head FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON chain_head USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);

ALTER TABLE receipts ENABLE ROW LEVEL SECURITY;
ALTER TABLE receipts FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON receipts USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);

ALTER TABLE call_facts ENABLE ROW LEVEL SECURITY;
ALTER TABLE call_facts FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON call_facts USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);

ALTER TABLE open_intent ENABLE ROW LEVEL SECURITY;
ALTER TABLE open_intent FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON open_intent USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);

ALTER TABLE run_head ENABLE ROW LEVEL SECURITY;
ALTER TABLE run_head FORCE ROW LEVEL SECURITY;
CREATE POLICY of_named_tenants ON run_head USING (
    tenant_id = ANY ((SELECT string_to_array(current_setting('aegis.tenants', true), E'\x1f'))::text[])
    OR (SELECT current_setting('aegis.tenants', true)) = '*'
);
