-- Networks, the predefined ones included: their IDs are stable. All of a network is fixed when it is made, so what nobody
-- searches for is one JSON text. Endpoints are not here: a reboot makes them worthless, so they live in the run root.
CREATE TABLE networks (
    id TEXT PRIMARY KEY CHECK (length(id) = 64),
    name TEXT NOT NULL UNIQUE,
    driver TEXT NOT NULL CHECK (driver IN ('bridge', 'host', 'null')),
    created_us INTEGER NOT NULL,
    bridge TEXT UNIQUE,         -- kernel name, for the driver of that name
    definition TEXT NOT NULL
) STRICT;
