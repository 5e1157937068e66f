-- What the registry's repositories hold. The bytes are imaged's; each row here owns one label there, its root, that
-- keeps them. The label is set before the row is made, and the row is gone before the label is taken back.
CREATE TABLE blobs (
    repository    TEXT NOT NULL,
    digest        TEXT NOT NULL,
    size_bytes    INTEGER NOT NULL CHECK (size_bytes >= 0),
    root          TEXT NOT NULL UNIQUE,
    -- Until then it stays without a manifest that refers to it: a push brings blobs first.
    keep_until_ns INTEGER NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX blobs_by_digest ON blobs (digest);

CREATE TABLE manifests (
    repository    TEXT NOT NULL,
    digest        TEXT NOT NULL,
    media_type    TEXT NOT NULL,
    size_bytes    INTEGER NOT NULL CHECK (size_bytes >= 0),
    root          TEXT NOT NULL UNIQUE,
    subject       TEXT,          -- digest of the manifest that this one is about; it need not be here
    artifact_type TEXT NOT NULL, -- empty: none
    annotations   TEXT NOT NULL, -- JSON, an object of strings
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifests_by_subject ON manifests (repository, subject);

-- What a manifest refers to cannot be removed before it: no cascade on the second key.
CREATE TABLE manifest_blobs (
    repository TEXT NOT NULL,
    manifest   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (repository, manifest, digest),
    FOREIGN KEY (repository, manifest) REFERENCES manifests (repository, digest) ON DELETE CASCADE,
    FOREIGN KEY (repository, digest) REFERENCES blobs (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_blobs_by_digest ON manifest_blobs (repository, digest);

CREATE TABLE manifest_children (
    repository TEXT NOT NULL,
    manifest   TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (repository, manifest, digest),
    FOREIGN KEY (repository, manifest) REFERENCES manifests (repository, digest) ON DELETE CASCADE,
    FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_children_by_digest ON manifest_children (repository, digest);

CREATE TABLE tags (
    repository TEXT NOT NULL,
    tag        TEXT NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (repository, tag),
    FOREIGN KEY (repository, digest) REFERENCES manifests (repository, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_digest ON tags (repository, digest);
