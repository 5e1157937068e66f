-- Blobs that images need and that are not made yet: the snapshotter has the layers. What has a row here has no file, and
-- for whoever asks for content it is not here. The row goes when the blob comes.
CREATE TABLE deferred_blobs (
    digest TEXT PRIMARY KEY REFERENCES blobs (digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
