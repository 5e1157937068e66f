-- More drivers: macvlan and ipvlan. Which there are is checked when a network is made, and no longer here.
CREATE TABLE networks_new (
    id TEXT PRIMARY KEY CHECK (length(id) = 64),
    name TEXT NOT NULL UNIQUE,
    driver TEXT NOT NULL,
    created_us INTEGER NOT NULL,
    bridge TEXT UNIQUE,         -- kernel name, for the driver of that name
    definition TEXT NOT NULL
) STRICT;
INSERT INTO networks_new SELECT id, name, driver, created_us, bridge, definition FROM networks ORDER BY rowid;
DROP TABLE networks;
ALTER TABLE networks_new RENAME TO networks;
