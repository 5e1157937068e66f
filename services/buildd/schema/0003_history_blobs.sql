-- The log of a build is what ``updates`` is once it is inflated: messages, each with its length before it. Builds from
-- before have one message, and no digest.
ALTER TABLE builds ADD COLUMN log_digest TEXT NOT NULL DEFAULT '';
CREATE INDEX builds_by_log ON builds (log_digest) WHERE log_digest != '';

-- What a build's record names by digest besides: attestations, an image's documents, an error's details.
CREATE TABLE build_blobs (
    ref    TEXT NOT NULL REFERENCES builds (ref) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    data   BLOB NOT NULL, -- compressed
    PRIMARY KEY (ref, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX build_blobs_by_digest ON build_blobs (digest);
