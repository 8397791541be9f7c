"""The tables of the journal's database, and its format version.

Every table is append-only, and the database itself refuses anything else. Paths are the bytes of the name. Records are
canonical JSON (`aquiline.changes.canonical`): fields that a reader does not know stay where they are.

A minor version adds tables, columns with a default, fields or event names; a major version changes a meaning, and a
program refuses a major version newer than its own.
"""

from __future__ import annotations

#: Major, minor.
FORMAT = (1, 0)

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    header TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS stage (
    run INTEGER NOT NULL REFERENCES run,
    number INTEGER NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS step (
    run INTEGER NOT NULL REFERENCES run,
    number INTEGER NOT NULL,
    stage INTEGER NOT NULL,
    component TEXT NOT NULL,
    kind TEXT NOT NULL,
    kind_version INTEGER NOT NULL,
    description TEXT NOT NULL,
    record TEXT NOT NULL,
    PRIMARY KEY (run, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS touched (
    path BLOB NOT NULL,
    run INTEGER NOT NULL,
    step INTEGER NOT NULL,
    PRIMARY KEY (path, run, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    step INTEGER NOT NULL,
    what TEXT NOT NULL,
    data TEXT,
    wall REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS event_step ON event (run, step);
CREATE TABLE IF NOT EXISTS value (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    path BLOB NOT NULL,
    run INTEGER NOT NULL,
    step INTEGER NOT NULL,
    object TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS value_path ON value (path);
CREATE INDEX IF NOT EXISTS value_step ON value (run, step);
CREATE TABLE IF NOT EXISTS debt (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    step INTEGER NOT NULL,
    component TEXT NOT NULL,
    reaction TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS debt_end (
    debt INTEGER PRIMARY KEY REFERENCES debt,
    what TEXT NOT NULL CHECK (what IN ('paid', 'cancelled')),
    run INTEGER NOT NULL,
    wall REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS directory (
    run INTEGER NOT NULL,
    path BLOB NOT NULL,
    mtime_ns INTEGER NOT NULL,
    PRIMARY KEY (run, path)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS live (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    profile TEXT NOT NULL,
    change_ids TEXT NOT NULL,
    run INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS preimage (
    run INTEGER NOT NULL,
    step INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    secret INTEGER NOT NULL,
    PRIMARY KEY (run, step, sha256)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS preimage_digest ON preimage (sha256);
CREATE TABLE IF NOT EXISTS tombstone (
    sha256 TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    wall REAL NOT NULL
) WITHOUT ROWID;
"""

#: All tables but meta, whose version grows.
TABLES = (
    "run", "stage", "step", "touched", "event", "value", "debt", "debt_end", "directory", "live", "preimage",
    "tombstone",
)  # fmt: skip

_REFUSALS = "".join(
    f"CREATE TRIGGER IF NOT EXISTS {table}_{verb} BEFORE {verb} ON {table}"
    " BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;\n"
    for table in TABLES
    for verb in ("update", "delete")
)

SCHEMA = _TABLES + _REFUSALS
