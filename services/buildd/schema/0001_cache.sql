-- Results of steps. A lease of imaged's of the same name keeps a record's layers: it is made before the row, and goes
-- after it. So a lease without a row is garbage, and a row without a lease has lost its layers.
CREATE TABLE records (
    id          TEXT PRIMARY KEY,
    key         TEXT NOT NULL,       -- of the step: equal keys, equal results
    output      INTEGER NOT NULL CHECK (output >= 0),
    outputs     INTEGER NOT NULL CHECK (outputs > output), -- how many the step has; all of them are a hit, or none
    superseded  INTEGER NOT NULL DEFAULT 0 CHECK (superseded IN (0, 1)), -- 1: the step ran again; goes when unused
    type        TEXT NOT NULL,
    description TEXT NOT NULL,
    created_ns  INTEGER NOT NULL,
    used_ns     INTEGER NOT NULL,
    uses        INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX records_by_key ON records (key, output) WHERE superseded = 0;

CREATE TABLE record_layers (
    record     TEXT NOT NULL REFERENCES records (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL CHECK (position >= 0), -- 0 is the base
    media_type TEXT NOT NULL,
    digest     TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    diff_id    TEXT NOT NULL,
    PRIMARY KEY (record, position)
) STRICT, WITHOUT ROWID;

-- Which steps a record was made from, by their keys: a note, and not a claim.
CREATE TABLE record_parents (
    record TEXT NOT NULL REFERENCES records (id) ON DELETE CASCADE,
    key    TEXT NOT NULL,
    PRIMARY KEY (record, key)
) STRICT, WITHOUT ROWID;

-- What a key of diff IDs alone has led to.
CREATE TABLE quick_keys (
    quick   TEXT PRIMARY KEY,
    key     TEXT NOT NULL,
    made_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX quick_keys_by_key ON quick_keys (key, made_ns);

-- Directories of cache mounts, each called by its ID. The directory is made before the row, and goes after it.
CREATE TABLE cache_mounts (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL, -- what the step calls it; never a part of a path
    base        TEXT NOT NULL, -- what it began with: a digest, or nothing
    description TEXT NOT NULL,
    created_ns  INTEGER NOT NULL,
    used_ns     INTEGER NOT NULL,
    uses        INTEGER NOT NULL DEFAULT 0,
    size_bytes  INTEGER NOT NULL DEFAULT 0, -- as last measured
    measured_ns INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX cache_mounts_by_name ON cache_mounts (name, base);
