-- Of an EROFS image; an image by itself is OCI's.
ALTER TABLE layers RENAME COLUMN image_digest TO erofs_digest;
