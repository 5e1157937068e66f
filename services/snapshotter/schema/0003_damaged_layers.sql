-- What a check found wrong with a layer; empty for one that is whole, as far as anybody knows. A damaged one counts as
-- missing for whoever would apply it again, which puts another in its place.

ALTER TABLE layers ADD COLUMN damaged TEXT NOT NULL DEFAULT '';
