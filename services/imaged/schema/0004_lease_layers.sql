-- What a lease's content is about to be unpacked to. The snapshotter keeps these layers and their stack until the lease
-- ends, which is when the image that it was for is there, or will not be.
CREATE TABLE lease_layers (
    lease    TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    position INTEGER NOT NULL CHECK (position >= 0), -- 0 is the base
    diff_id  TEXT NOT NULL,
    PRIMARY KEY (lease, position)
) STRICT, WITHOUT ROWID;
