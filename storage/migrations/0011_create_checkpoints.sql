-- Signed heads of the chains' trees, and the hashes that proofs are made of.

-- A checkpoint is a signed note. Two of one size with different roots are evidence of a fork, so that
-- the root is part of the key. `kind` says whose it is: signed by us, found elsewhere and not ours
-- (fork), or of a history that was given up on record (accepted).
CREATE TABLE checkpoint (
    tenant_id TEXT NOT NULL,
    size BIGINT NOT NULL,
    root TEXT NOT NULL,
    kind TEXT NOT NULL,
    note TEXT NOT NULL,
    at_us BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, size, root)
);

-- 256 neighbouring hashes of a tree: leaves on level 0, above it the roots of 256 whole tiles of the
-- level below. `width` is how many there are; `root` is '' until there are 256. It stands before the
-- hashes, so that it can be read without them.
CREATE TABLE tree_tile (
    tenant_id TEXT NOT NULL,
    level BIGINT NOT NULL,
    tile BIGINT NOT NULL,
    width BIGINT NOT NULL,
    root TEXT NOT NULL,
    hashes TEXT NOT NULL,
    PRIMARY KEY (tenant_id, level, tile)
);
