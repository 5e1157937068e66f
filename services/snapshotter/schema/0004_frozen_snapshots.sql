-- What snapshots have become that were frozen, for whoever asks again because the answer was lost; kept for a while.
CREATE TABLE frozen (
    key TEXT PRIMARY KEY,
    diff_id TEXT NOT NULL,               -- empty: nothing differed, and there is no layer
    digest TEXT NOT NULL,                -- of the blob
    blob_bytes INTEGER NOT NULL,
    frozen_at_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX frozen_by_time ON frozen (frozen_at_ns);

-- 1: some of the holds are of those who froze it. No lease can have named the layer before it was there, so a pass of
-- garbage collection does not end these holds; time does.
ALTER TABLE layers ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0 CHECK (frozen IN (0, 1));
