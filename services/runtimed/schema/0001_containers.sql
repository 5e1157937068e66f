-- What was asked for. The JSON documents are written by runtimed.containers.columns and by nobody else.
CREATE TABLE containers (
    id         TEXT PRIMARY KEY CHECK (length(id) = 64),
    name       TEXT NOT NULL UNIQUE,
    created_ns INTEGER NOT NULL,
    spec       TEXT NOT NULL,
    mounts     TEXT NOT NULL,
    runtime    TEXT NOT NULL,
    cgroup     TEXT NOT NULL
) STRICT;

-- What became of it.
CREATE TABLE states (
    id            TEXT PRIMARY KEY REFERENCES containers (id) ON DELETE CASCADE,
    -- The intent, written before the act: 'creating' and 'removing' are undone or finished after a crash,
    -- 'starting' is looked at; 'settled' is none.
    intent        TEXT NOT NULL CHECK (intent IN ('creating', 'settled', 'starting', 'removing')),
    state         TEXT NOT NULL,
    network       TEXT NOT NULL,
    restart_count INTEGER NOT NULL DEFAULT 0,
    -- Somebody asked for it to stop, so no restart policy brings it back.
    stopped_by_request INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE execs (
    id           TEXT PRIMARY KEY CHECK (length(id) = 64),
    container_id TEXT NOT NULL REFERENCES containers (id) ON DELETE CASCADE,
    created_ns   INTEGER NOT NULL,
    spec         TEXT NOT NULL,
    pid          INTEGER NOT NULL DEFAULT 0,  -- 0: not running
    started      INTEGER NOT NULL DEFAULT 0,
    exit_code    INTEGER
) STRICT;
CREATE INDEX execs_by_container ON execs (container_id, created_ns);

-- The journal, bounded by runtimed.events: the newest few thousand.
CREATE TABLE events (
    number  INTEGER PRIMARY KEY AUTOINCREMENT,
    time_ns INTEGER NOT NULL,
    event   TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_time ON events (time_ns);
