-- By which manifests images were known before they were completed: whoever built one was told that digest, and may ask
-- for the image by it.
CREATE TABLE former_manifests (
    digest TEXT PRIMARY KEY,
    image  TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX former_manifests_by_image ON former_manifests (image);
