-- Pod sandboxes. What is done to one is its state before it is done: 'creating' is undone after a crash, 'stopping' and
-- 'removing' are finished. `config` is kubelet's PodSandboxConfig as it was sent.
CREATE TABLE sandboxes (
    id         TEXT PRIMARY KEY CHECK (length(id) = 64),
    created_ns INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'stopping', 'stopped', 'removing')),
    handler    TEXT NOT NULL,
    config     BLOB NOT NULL,
    addresses  TEXT NOT NULL DEFAULT '',  -- separated by commas, the pod's own first
    holder     TEXT NOT NULL DEFAULT ''   -- the container that keeps a shared pid namespace
) STRICT;

-- What kubelet knows of containers and runtimed does not. `container` is runtimed's ID, empty until it has one; by then
-- the name is all that there may be of it.
CREATE TABLE containers (
    name       TEXT PRIMARY KEY,
    container  TEXT NOT NULL,
    sandbox    TEXT NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
    created_ns INTEGER NOT NULL,
    config     BLOB NOT NULL,
    image_id   TEXT NOT NULL,
    image_name TEXT NOT NULL,
    image_ref  TEXT NOT NULL,
    log_path   TEXT NOT NULL
) STRICT;
