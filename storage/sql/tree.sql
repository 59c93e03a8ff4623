-- name: latest_checkpoints
-- Job across tenants: the last signed head of every chain.
SELECT c.tenant_id, c.size, c.root, c.kind, c.note, c.at_us
FROM checkpoint c
WHERE c.kind = 'signed' AND c.size = (
    SELECT max(m.size) FROM checkpoint m WHERE m.tenant_id = c.tenant_id AND m.kind = 'signed'
);

-- name: latest_checkpoint
-- The last signed head of a chain.
SELECT tenant_id, size, root, kind, note, at_us
FROM checkpoint
WHERE tenant_id = $1 AND kind = 'signed'
ORDER BY size DESC
LIMIT 1;

-- name: signed_checkpoints
-- The newest signed heads of a chain, the largest first.
SELECT tenant_id, size, root, kind, note, at_us
FROM checkpoint
WHERE tenant_id = $1 AND kind = 'signed'
ORDER BY size DESC, root
LIMIT $2;

-- name: checkpoints_before
-- A tenant's checkpoints of any kind, the largest first, below a given size.
SELECT tenant_id, size, root, kind, note, at_us
FROM checkpoint
WHERE tenant_id = $1 AND size < $2
ORDER BY size DESC, root
LIMIT $3;

-- name: checkpoints_at
-- The checkpoints of one size: more than one is evidence of a fork.
SELECT tenant_id, size, root, kind, note, at_us
FROM checkpoint
WHERE tenant_id = $1 AND size = $2;

-- name: put_checkpoint
-- A checkpoint, once: another node may have signed the same head.
INSERT INTO checkpoint (tenant_id, size, root, kind, note, at_us)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, size, root) DO NOTHING;

-- name: set_checkpoint
-- A checkpoint with what came to it since: cosignatures, or that it was given up on record.
INSERT INTO checkpoint (tenant_id, size, root, kind, note, at_us)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, size, root) DO UPDATE SET
    kind = excluded.kind,
    note = excluded.note;

-- name: drop_old_checkpoints
-- Lets go of a tenant's signed heads but for the newest few: each later one vouches for them.
DELETE FROM checkpoint
WHERE tenant_id = $1 AND kind = 'signed' AND size < (
    SELECT min(few.size)
    FROM (
        SELECT n.size
        FROM checkpoint n
        WHERE n.tenant_id = $1 AND n.kind = 'signed'
        ORDER BY n.size DESC
        LIMIT $2
    ) few
);

-- name: tree_tiles
-- A stretch of a tree's tiles on one level.
SELECT tenant_id, level, tile, width, root, hashes
FROM tree_tile
WHERE tenant_id = $1 AND level = $2 AND tile >= $3 AND tile <= $4
ORDER BY tile;

-- name: tile_roots
-- The roots of whole tiles on one level, without their hashes.
SELECT tile, root
FROM tree_tile
WHERE tenant_id = $1 AND level = $2 AND tile >= $3 AND tile <= $4 AND width = 256
ORDER BY tile;

-- name: last_tile
-- Where the tiles of one level end.
SELECT tile, width
FROM tree_tile
WHERE tenant_id = $1 AND level = $2
ORDER BY tile DESC
LIMIT 1;

-- name: put_tile
-- A tile, or what a narrower one has become.
INSERT INTO tree_tile (tenant_id, level, tile, width, root, hashes)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant_id, level, tile) DO UPDATE SET
    width = excluded.width,
    root = excluded.root,
    hashes = excluded.hashes
WHERE tree_tile.width < excluded.width;

-- name: move_checkpoints
-- Job across tenants: signed heads; of each tenant the newest few.
SELECT tenant_id, size, root, kind, note, at_us FROM checkpoint;

-- name: count_checkpoints
-- Job across tenants: signed heads that are kept.
SELECT count(*) FROM checkpoint;

-- name: move_tiles
-- A page of a tree's tiles, after a given one.
SELECT tenant_id, level, tile, width, root, hashes
FROM tree_tile
WHERE tenant_id = $1 AND (level > $2 OR (level = $2 AND tile > $3))
ORDER BY level, tile
LIMIT $4;

-- name: count_tiles
-- Job across tenants: tiles of trees.
SELECT count(*) FROM tree_tile;
