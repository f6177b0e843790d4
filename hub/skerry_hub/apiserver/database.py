"""The SQLite file: its tables, how it is opened and checked, and the one statement list of a commit.

Refuses to know what the rows mean. WAL with synchronous=FULL: a commit that returned survives a power cut.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import NamedTuple

from . import limits
from .errors import DatabaseError

FORMAT = 1
_APPLICATION_ID = 0x736B7279  # "skry"
_TABLES = """
CREATE TABLE objects (resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, rv INTEGER NOT NULL,
    data BLOB NOT NULL, PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
CREATE TABLE changes (rv INTEGER PRIMARY KEY, resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
    old BLOB, new BLOB);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('rv', 0), ('forgotten', 0);
"""


class Row(NamedTuple):
    """One change; `new` None removes the object."""

    rv: int
    resource: str
    namespace: str
    name: str
    old: bytes | None
    new: bytes | None


class Loaded(NamedTuple):
    rv: int
    forgotten_rv: int
    objects: list[tuple[str, str, str, int, bytes]]
    changes: list[tuple[int, str, str, str, bytes | None, bytes | None]]


def create_or_open(path: Path) -> sqlite3.Connection:
    """The database at `path`, made if missing, checked if there. Raises DatabaseError."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as why:
        raise DatabaseError(f"{path}: cannot open the database: {why}") from None
    try:
        _prepare(db, path)
    except sqlite3.Error as why:
        db.close()
        raise DatabaseError(f"{path}: not a usable database: {why}") from None
    except DatabaseError:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.execute(f"PRAGMA busy_timeout={limits.SQLITE_BUSY_MS}")
    if db.execute("PRAGMA journal_mode=WAL").fetchone()[0] != "wal":
        raise DatabaseError(f"{path}: the filesystem does not allow write-ahead logging")
    db.execute("PRAGMA synchronous=FULL")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    found = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and found == 0:
        db.executescript(
            f"BEGIN; PRAGMA application_id={_APPLICATION_ID}; PRAGMA user_version={FORMAT}; {_TABLES} COMMIT;"
        )
        return
    if db.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
        raise DatabaseError(f"{path}: is not a database of skerry")
    if version != FORMAT:
        raise DatabaseError(f"{path}: has format {version}, this version of skerry reads format {FORMAT}")
    answer = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer != "ok":
        answer = " ".join(str(answer).split())
        raise DatabaseError(f"{path}: is corrupt: {answer}; restore a backup (docs/api-server.md)")


def load(db: sqlite3.Connection) -> Loaded:
    """Everything there is. Raises DatabaseError."""
    try:
        counters = dict(db.execute("SELECT name, value FROM counters"))
        objects = db.execute("SELECT resource, namespace, name, rv, data FROM objects").fetchall()
        changes = db.execute("SELECT rv, resource, namespace, name, old, new FROM changes ORDER BY rv").fetchall()
        return Loaded(counters["rv"], counters["forgotten"], objects, changes)
    except (sqlite3.Error, KeyError) as why:
        raise DatabaseError(f"the database cannot be read: {why}; restore a backup (docs/api-server.md)") from None


def write(db: sqlite3.Connection, rows: list[Row], forget_to: int) -> None:
    """Commits `rows` in order and forgets changes up to `forget_to`. Raises sqlite3.Error; then nothing changed."""
    db.execute("BEGIN IMMEDIATE")
    try:
        for row in rows:
            if row.new is None:
                db.execute("DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", row[1:4])
            else:
                db.execute("INSERT OR REPLACE INTO objects VALUES (?,?,?,?,?)", (*row[1:4], row.rv, row.new))
        db.executemany("INSERT INTO changes VALUES (?,?,?,?,?,?)", rows)
        db.execute("UPDATE counters SET value=? WHERE name='rv'", (rows[-1].rv,))
        if forget_to:
            db.execute("DELETE FROM changes WHERE rv<=?", (forget_to,))
            db.execute("UPDATE counters SET value=? WHERE name='forgotten'", (forget_to,))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
