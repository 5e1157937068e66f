-- Whether a plugin was told to mount a volume for its holder, and not yet to unmount it: only who has mounted unmounts.
ALTER TABLE volume_holds ADD COLUMN mounted INTEGER NOT NULL DEFAULT 0 CHECK (mounted IN (0, 1));
