-- Builds that have ended, each written once and whole.
CREATE TABLE builds (
    ref          TEXT PRIMARY KEY,
    document     TEXT NOT NULL,    -- JSON: what was asked for, and what came of it
    updates      BLOB NOT NULL,    -- how it went: a StatusResponse, compressed
    completed_ns INTEGER NOT NULL,
    pinned       INTEGER NOT NULL DEFAULT 0 CHECK (pinned IN (0, 1)) -- 1: stays until it is removed
) STRICT, WITHOUT ROWID;
CREATE INDEX builds_by_end ON builds (completed_ns);
