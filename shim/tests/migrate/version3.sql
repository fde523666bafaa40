-- The tables of version 3, as sluice-shim 0.1 wrote them before it had a clock of its own.
PRAGMA auto_vacuum = incremental;
PRAGMA journal_mode = wal;
PRAGMA application_id = 0x534c4345;
PRAGMA user_version = 3;

CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL,
    compact_revision INTEGER NOT NULL,
    cluster_id INTEGER NOT NULL
) STRICT;
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
, uid BLOB) STRICT;
CREATE UNIQUE INDEX current_key ON current (key);
CREATE INDEX current_mod ON current (mod_revision);
CREATE INDEX current_lease ON current (lease) WHERE lease <> 0;
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
CREATE TABLE directory (
    path BLOB PRIMARY KEY,
    live INTEGER NOT NULL,
    opaque INTEGER NOT NULL
, misplaced INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
CREATE INDEX directory_opaque ON directory (path) WHERE opaque > 0;
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
CREATE TABLE lease (
    id INTEGER PRIMARY KEY,
    ttl INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX lease_end ON lease (expires_at);
CREATE TABLE field_index (
    id INTEGER PRIMARY KEY,
    prefix BLOB NOT NULL,
    api_version TEXT NOT NULL,
    field TEXT NOT NULL,
    -- 0: being built, 1: ready, 2: being removed.
    state INTEGER NOT NULL,
    -- While it is being built: objects up to this key have their entries, and how many these are.
    cursor BLOB NOT NULL,
    objects INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX field_index_field ON field_index (prefix, api_version, field) WHERE state < 2;
CREATE INDEX directory_misplaced ON directory (path) WHERE misplaced > 0;
CREATE TABLE owner (
    owner_uid BLOB NOT NULL,
    labelled INTEGER NOT NULL,
    key BLOB NOT NULL,
    block INTEGER NOT NULL,
    waits INTEGER NOT NULL,
    PRIMARY KEY (owner_uid, labelled, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX owner_waits ON owner (owner_uid) WHERE waits = 1;
CREATE TABLE gc_task (
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    uid BLOB NOT NULL,
    key BLOB NOT NULL,
    hidden INTEGER NOT NULL,
    cause_revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    swept INTEGER NOT NULL DEFAULT 0,
    -- The last dependent that was looked at: its place in the table owner.
    cursor_labelled INTEGER,
    cursor_key BLOB,
    failures INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    UNIQUE (uid, kind)
) STRICT;
CREATE INDEX gc_task_due ON gc_task (not_before) WHERE state <> 1;
CREATE INDEX gc_task_age ON gc_task (created_at);
CREATE TABLE gc_tombstone (
    id INTEGER PRIMARY KEY,
    uid BLOB NOT NULL,
    key BLOB NOT NULL,
    namespaced INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT;
INSERT INTO meta VALUES (1, 5, 0, 77);
