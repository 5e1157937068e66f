-- The digest of a layer's image file, so that it can be checked later; empty for a directory.

ALTER TABLE layers ADD COLUMN image_digest TEXT NOT NULL DEFAULT '';
