-- Whether a removal that has begun takes the anonymous volumes along: whoever finishes it has to know.
ALTER TABLE states ADD COLUMN removes_volumes INTEGER NOT NULL DEFAULT 0;
