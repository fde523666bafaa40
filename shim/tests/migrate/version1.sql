-- The tables of version 1, as sluice-shim 0.1 wrote them.
PRAGMA auto_vacuum = incremental;
PRAGMA journal_mode = wal;
PRAGMA application_id = 0x534c4345;
PRAGMA user_version = 1;

CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,
    compact_revision INTEGER NOT NULL,
    cluster_id INTEGER NOT NULL
) STRICT;

-- The newest value of each live key.
CREATE TABLE current (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL,
    sub INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    -- Whether the object has the skip label; NULL if the value is not a readable object.
    hidden INTEGER,
    value BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX current_key ON current (key);
CREATE INDEX current_mod ON current (mod_revision);
CREATE INDEX current_lease ON current (lease) WHERE lease <> 0;
CREATE INDEX current_visible ON current (key) WHERE hidden = 0;

-- Values that were superseded at end_revision; `deleted` if that change deleted the key.
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    create_revision INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL,
    sub INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    value BLOB NOT NULL,
    end_revision INTEGER NOT NULL,
    end_sub INTEGER NOT NULL,
    deleted INTEGER NOT NULL
) STRICT;
CREATE INDEX history_key ON history (key, end_revision);
CREATE INDEX history_end ON history (end_revision);
CREATE INDEX history_mod ON history (mod_revision);

-- How many live keys each directory has, and how many of them hold no readable object.
CREATE TABLE directory (
    path BLOB PRIMARY KEY,
    live INTEGER NOT NULL,
    opaque INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX directory_opaque ON directory (path) WHERE opaque > 0;

-- The labels of the live objects, as an inverted index. The key is part of it, so that a page of a range comes in order.
CREATE TABLE attribute_name (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;
CREATE TABLE attribute (
    name INTEGER NOT NULL,
    value TEXT NOT NULL,
    key BLOB NOT NULL,
    PRIMARY KEY (name, value, key)
) STRICT, WITHOUT ROWID;

-- expires_at: milliseconds since 1970.
CREATE TABLE lease (
    id INTEGER PRIMARY KEY,
    ttl INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX lease_end ON lease (expires_at);
INSERT INTO meta VALUES (1, 5, 0, 77);
