-- name: approvals_decided
-- Job across tenants: of some approvals, a JSON list of tenant and id, those that wait no more. Only
-- where several processes share a store can another one decide.
SELECT approval.tenant_id, approval.approval_id
FROM jsonb_array_elements($1::jsonb) AS wanted (one), approval
WHERE approval.tenant_id = wanted.one ->> 0
    AND approval.approval_id = wanted.one ->> 1
    AND approval.state <> 'pending';
