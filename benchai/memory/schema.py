"""The tables of the memory's SQLite file.

Everything that can be found is a row of ``passages``, whatever it is a part of; ``words`` is its full-text index. Both
are changed by triggers alone, so that no way of deleting a passage leaves its words or its vector behind. A passage
keeps its text; another text is another passage.
"""

from __future__ import annotations

VERSION = 1

TABLES = """
CREATE TABLE namespaces (
    id INTEGER PRIMARY KEY,
    user TEXT NOT NULL,
    project TEXT NOT NULL,
    thread TEXT NOT NULL,
    UNIQUE (user, project, thread)
);
CREATE TABLE documents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL REFERENCES namespaces,
    source TEXT NOT NULL,
    title TEXT NOT NULL,
    media TEXT NOT NULL,
    hash TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    version TEXT NOT NULL,
    meta TEXT NOT NULL,
    at REAL NOT NULL,
    UNIQUE (ns, source)
);
CREATE TABLE links (
    document INTEGER NOT NULL REFERENCES documents ON DELETE CASCADE,
    target TEXT NOT NULL,
    part TEXT NOT NULL,
    kind TEXT NOT NULL
);
CREATE INDEX links_of ON links (document);
CREATE TABLE turns (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL REFERENCES namespaces,
    thread TEXT NOT NULL,
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX turns_of ON turns (ns, thread, id);
CREATE INDEX turns_run ON turns (ns, run, at);
CREATE TABLE facts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL REFERENCES namespaces,
    subject TEXT NOT NULL,
    relation TEXT NOT NULL,
    value TEXT NOT NULL,
    text TEXT NOT NULL,
    confidence REAL NOT NULL,
    valid_at REAL NOT NULL,
    invalid_at REAL,
    superseded_by INTEGER,
    extractor TEXT NOT NULL,
    key TEXT NOT NULL,
    value_key TEXT NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX facts_of ON facts (ns, key, valid_at, id);
CREATE INDEX facts_value ON facts (ns, value_key);
CREATE INDEX facts_after ON facts (superseded_by);
CREATE TABLE howtos (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL REFERENCES namespaces,
    task TEXT NOT NULL,
    steps TEXT NOT NULL,
    workflow TEXT NOT NULL,
    successes INTEGER NOT NULL,
    key TEXT NOT NULL,
    at REAL NOT NULL,
    UNIQUE (ns, key, workflow)
);
CREATE TABLE summaries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL REFERENCES namespaces,
    thread TEXT NOT NULL,
    text TEXT NOT NULL,
    extractor TEXT NOT NULL,
    stale INTEGER NOT NULL DEFAULT 0,
    at REAL NOT NULL
);
CREATE INDEX summaries_of ON summaries (ns, thread);
CREATE TABLE derived (
    kind TEXT NOT NULL,
    child INTEGER NOT NULL,
    turn INTEGER NOT NULL REFERENCES turns ON DELETE CASCADE,
    PRIMARY KEY (kind, child, turn)
) WITHOUT ROWID;
CREATE INDEX derived_from ON derived (turn);
CREATE TABLE labels (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL REFERENCES namespaces,
    query TEXT NOT NULL,
    passage INTEGER NOT NULL REFERENCES passages ON DELETE CASCADE,
    good INTEGER NOT NULL,
    at REAL NOT NULL
);
CREATE INDEX labels_of ON labels (passage);
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE passages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    ns INTEGER NOT NULL REFERENCES namespaces,
    kind TEXT NOT NULL,
    owner INTEGER NOT NULL,
    place INTEGER NOT NULL,
    text TEXT NOT NULL,
    context TEXT NOT NULL DEFAULT '',
    title TEXT NOT NULL DEFAULT '',
    heading TEXT NOT NULL DEFAULT '',
    line INTEGER,
    end_line INTEGER,
    page INTEGER,
    at REAL NOT NULL,
    vector TEXT,
    mark TEXT AS (char(57344) || 'ns' || ns || ' ' || char(57344) || 'kind' || kind)
);
CREATE INDEX passages_of ON passages (kind, owner, place);
CREATE INDEX passages_in ON passages (ns, at);
CREATE INDEX passages_vector ON passages (vector);
CREATE TABLE gone (passage INTEGER PRIMARY KEY);
CREATE VIRTUAL TABLE words USING fts5 (
    text, context, title, heading, mark,
    content='passages', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab ('words', 'row');
"""

_COLUMNS = "text, context, title, heading, mark"
_OLD = "old.text, old.context, old.title, old.heading, old.mark"
_NEW = "new.text, new.context, new.title, new.heading, new.mark"
# what holds is found, what held is not
_FACT_PASSAGE = (
    "INSERT INTO passages (ns, kind, owner, place, text, at) SELECT new.ns, 'fact', new.id, 0, new.text, new.at"
)

TRIGGERS = f"""
CREATE TRIGGER passage_added AFTER INSERT ON passages BEGIN
    INSERT INTO words (rowid, {_COLUMNS}) VALUES (new.id, {_NEW});
END;
CREATE TRIGGER passage_deleted AFTER DELETE ON passages BEGIN
    INSERT INTO words (words, rowid, {_COLUMNS}) VALUES ('delete', old.id, {_OLD});
    INSERT OR IGNORE INTO gone (passage)
        SELECT old.id WHERE EXISTS (SELECT 1 FROM settings WHERE name = 'fingerprint');
END;
CREATE TRIGGER passage_changed AFTER UPDATE OF ns, kind, context, title, heading ON passages BEGIN
    INSERT INTO words (words, rowid, {_COLUMNS}) VALUES ('delete', old.id, {_OLD});
    INSERT INTO words (rowid, {_COLUMNS}) VALUES (new.id, {_NEW});
END;
CREATE TRIGGER passage_fixed BEFORE UPDATE OF id, text ON passages BEGIN
    SELECT RAISE(ABORT, 'a passage keeps its text: its vector would be that of another');
END;
CREATE TRIGGER document_deleted AFTER DELETE ON documents BEGIN
    DELETE FROM passages WHERE kind = 'document' AND owner = old.id;
END;
CREATE TRIGGER turn_deleted AFTER DELETE ON turns BEGIN
    DELETE FROM passages WHERE kind = 'turn' AND owner = old.id;
END;
CREATE TRIGGER fact_added AFTER INSERT ON facts WHEN new.invalid_at IS NULL BEGIN
    {_FACT_PASSAGE};
END;
CREATE TRIGGER fact_changed AFTER UPDATE OF text, invalid_at ON facts
WHEN new.text <> old.text OR (new.invalid_at IS NULL) <> (old.invalid_at IS NULL) BEGIN
    DELETE FROM passages WHERE kind = 'fact' AND owner = old.id;
    {_FACT_PASSAGE} WHERE new.invalid_at IS NULL;
END;
CREATE TRIGGER fact_deleted AFTER DELETE ON facts BEGIN
    UPDATE facts SET superseded_by = old.superseded_by, invalid_at = old.invalid_at WHERE superseded_by = old.id;
    DELETE FROM passages WHERE kind = 'fact' AND owner = old.id;
    DELETE FROM derived WHERE kind = 'fact' AND child = old.id;
END;
CREATE TRIGGER howto_deleted AFTER DELETE ON howtos BEGIN
    DELETE FROM passages WHERE kind = 'howto' AND owner = old.id;
    DELETE FROM derived WHERE kind = 'howto' AND child = old.id;
END;
CREATE TRIGGER summary_deleted AFTER DELETE ON summaries BEGIN
    DELETE FROM passages WHERE kind = 'summary' AND owner = old.id;
    DELETE FROM derived WHERE kind = 'summary' AND child = old.id;
END;
"""  # noqa: S608 - names of columns
