-- Pods' places in their networks, as plugins were asked for them: they are taken back with the same words. There is a
-- row from before the first plugin runs until the last one has agreed that nothing is left, whatever becomes of the
-- sandbox meanwhile; so it refers to no row of `sandboxes`.
CREATE TABLE cni_attachments (
    sandbox  TEXT PRIMARY KEY,
    document TEXT NOT NULL -- JSON, of crid.cni.records
) STRICT, WITHOUT ROWID;

-- The ranges of addresses that this node's pods have, as kubelet told them last.
CREATE TABLE cni_ranges (
    position INTEGER PRIMARY KEY,
    cidr     TEXT NOT NULL
) STRICT;
