-- Which image another one was committed from. The parent may be gone: it is a note, and not a claim.
CREATE TABLE image_parents (
    image  TEXT PRIMARY KEY REFERENCES images (id) ON DELETE CASCADE,
    parent TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX image_parents_by_parent ON image_parents (parent);
