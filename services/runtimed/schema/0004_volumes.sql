CREATE TABLE volumes (
    name       TEXT PRIMARY KEY,
    driver     TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    labels     TEXT NOT NULL,  -- JSON object of strings, as options are
    options    TEXT NOT NULL,
    anonymous  INTEGER NOT NULL CHECK (anonymous IN (0, 1))
) STRICT;

-- Who uses a volume, and where. The containers are those of 0001, which are written and removed around these rows.
CREATE TABLE volume_holds (
    container_id TEXT NOT NULL,
    target       TEXT NOT NULL,
    volume       TEXT NOT NULL REFERENCES volumes (name),
    -- Filling it with what the image has there: 0 not looked at yet, 1 begun, 2 done, or nothing was to be done.
    filled       INTEGER NOT NULL DEFAULT 0 CHECK (filled IN (0, 1, 2)),
    PRIMARY KEY (container_id, target)
) STRICT;
CREATE INDEX volume_holds_by_volume ON volume_holds (volume);
