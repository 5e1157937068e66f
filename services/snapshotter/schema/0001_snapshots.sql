-- layers     by diff ID, each stored once, whatever stacks it is part of
-- snapshots  a tree: stacked ones (chain IDs) refer to a layer, all others have a directory of their own
-- labels     of snapshots
-- numbers    the next directory name; names are never used twice

CREATE TABLE layers (
    diff_id TEXT PRIMARY KEY,
    dir_id INTEGER NOT NULL UNIQUE,      -- l/<dir_id>
    format TEXT NOT NULL,                -- what is there: model.LayerFormat
    size_bytes INTEGER NOT NULL CHECK (size_bytes >= 0),
    inodes INTEGER NOT NULL CHECK (inodes >= 0),
    -- Hides all that is below it. overlayfs ignores the mark that says so on the root of a layer.
    complete INTEGER NOT NULL CHECK (complete IN (0, 1)),
    applied_at_ns INTEGER NOT NULL,
    -- Applied this many times more than it was stacked: somebody is about to stack it, until the hold runs out.
    holds INTEGER NOT NULL CHECK (holds >= 0),
    held_until_ns INTEGER NOT NULL
) STRICT;

CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE CHECK (key <> ''),
    kind TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
    parent INTEGER REFERENCES snapshots (id),
    diff_id TEXT REFERENCES layers (diff_id) ON UPDATE CASCADE,
    dir_id INTEGER UNIQUE,               -- s/<dir_id>
    format TEXT NOT NULL DEFAULT '',     -- of its own directory: model.SnapshotFormat
    size_bytes INTEGER NOT NULL DEFAULT 0,  -- of its own directory, once committed
    inodes INTEGER NOT NULL DEFAULT 0,
    made_from TEXT NOT NULL DEFAULT '',  -- the key it was committed from, so that Commit can be repeated
    created_at_ns INTEGER NOT NULL,
    updated_at_ns INTEGER NOT NULL,
    CHECK ((diff_id IS NULL) <> (dir_id IS NULL)),
    CHECK (diff_id IS NULL OR kind = 'committed')
) STRICT;

CREATE INDEX snapshots_by_parent ON snapshots (parent);
CREATE INDEX snapshots_by_layer ON snapshots (diff_id);

CREATE TABLE labels (
    snapshot INTEGER NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (snapshot, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE numbers (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    next_dir_id INTEGER NOT NULL
) STRICT;

INSERT INTO numbers VALUES (1, 1);
