-- name: recorded_after
-- The same as in a file, up to the receipt at which facts reach $4 bytes: a server sends all rows of
-- a statement, so that this one has to end by itself. Sizes are told without reading a text
-- (octet_length), of as many seqs as there may be rows, and nothing beyond these is given.
WITH page AS (
    SELECT seq AS first_seq, seq + $3 AS end_seq
    FROM receipts
    WHERE tenant_id = $1 AND seq > $2
    ORDER BY seq
    LIMIT 1
)
SELECT
    r.tenant_id, r.seq, r.kind, r.event_id, r.call_id, r.ts_us, r.agent_id, r.user_id, r.run_id,
    r.trace_id, r.upstream, r.tool, r.action, r.resource, r.source_trust, r.decision, r.mode,
    r.rule_id, r.rule_hash, r.policy_revision, r.approval_id, r.approver, r.action_hash,
    r.request_sha256, r.args_commitment, r.outcome, r.http_status, r.receipt_hash,
    f.salt, f.arguments, f.facts
FROM receipts AS r
LEFT JOIN call_facts AS f ON f.tenant_id = r.tenant_id AND f.seq = r.seq
WHERE r.tenant_id = $1
    AND r.seq > $2
    AND r.seq < (SELECT end_seq FROM page)
    AND r.seq <= coalesce(
        (
            SELECT min(sized.seq)
            FROM (
                SELECT
                    few.seq,
                    sum(coalesce(octet_length(few.arguments), 0) + octet_length(few.facts))
                        OVER (ORDER BY few.seq) AS bytes
                FROM call_facts AS few
                WHERE few.tenant_id = $1
                    AND few.seq >= (SELECT first_seq FROM page)
                    AND few.seq < (SELECT end_seq FROM page)
            ) AS sized
            WHERE sized.bytes >= $4
        ),
        9223372036854775807
    )
ORDER BY r.seq
LIMIT $3;
