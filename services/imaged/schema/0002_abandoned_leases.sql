-- 1: of a fetch that broke off. It expires like any other, and goes earlier when the disk is full or an image of the
-- same source gets its name: the next fetch has found by then what it needed.
ALTER TABLE leases ADD COLUMN abandoned INTEGER NOT NULL DEFAULT 0 CHECK (abandoned IN (0, 1));
