-- What is on disk. The file is made first and the row after it; the row goes first and the file after it.
CREATE TABLE blobs (
    digest        TEXT PRIMARY KEY,
    size_bytes    INTEGER NOT NULL CHECK (size_bytes >= 0),
    created_ns    INTEGER NOT NULL,
    updated_ns    INTEGER NOT NULL,
    -- Written through the Content service, where nobody names a lease: kept until then without anything else.
    held_until_ns INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE blob_labels (
    digest TEXT NOT NULL REFERENCES blobs (digest) ON DELETE CASCADE,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (digest, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    id         TEXT PRIMARY KEY,
    expires_ns INTEGER NOT NULL,
    -- 0 while the fetch or import runs. One that is found so at start was killed, and nobody knows its lease.
    complete   INTEGER NOT NULL CHECK (complete IN (0, 1)),
    -- "<registry>/<repository>" that the content came from; empty for what was made here.
    source     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- A blob is leased before it is there, so that nobody takes it away between its arrival and its use.
CREATE TABLE lease_blobs (
    lease  TEXT NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY (lease, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX lease_blobs_by_digest ON lease_blobs (digest);

CREATE TABLE images (
    id              TEXT PRIMARY KEY, -- digest of the config
    target_type     TEXT NOT NULL,    -- index or manifest
    target_digest   TEXT NOT NULL,
    target_size     INTEGER NOT NULL,
    manifest_type   TEXT NOT NULL,
    manifest_digest TEXT NOT NULL,
    manifest_size   INTEGER NOT NULL,
    content_bytes   INTEGER NOT NULL,
    tagged_ns       INTEGER NOT NULL DEFAULT 0 -- 0: never had a name
) STRICT, WITHOUT ROWID;

CREATE TABLE image_layers (
    image      TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    position   INTEGER NOT NULL CHECK (position >= 0), -- 0 is the base
    media_type TEXT NOT NULL,
    digest     TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    diff_id    TEXT NOT NULL,
    PRIMARY KEY (image, position)
) STRICT, WITHOUT ROWID;

-- Everything an image needs. No cascade from blobs: a blob that is listed here cannot be deleted.
CREATE TABLE image_blobs (
    image  TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    digest TEXT NOT NULL REFERENCES blobs (digest),
    PRIMARY KEY (image, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX image_blobs_by_digest ON image_blobs (digest);

CREATE TABLE names (
    reference TEXT PRIMARY KEY,       -- "docker.io/library/debian:12" or "docker.io/library/debian@sha256:…"
    name      TEXT NOT NULL,          -- registry and repository
    digest    TEXT NOT NULL,          -- what it points to: an index or a manifest
    canonical INTEGER NOT NULL CHECK (canonical IN (0, 1)), -- 1: name@digest, 0: name:tag
    image     TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    tagged_ns INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX names_by_image ON names (image);
