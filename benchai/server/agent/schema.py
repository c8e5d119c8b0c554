"""The tables of the agent wire; every row belongs to an owner: the name of an API key, "" where there are no keys."""

TABLES = """
CREATE TABLE IF NOT EXISTS threads (
    owner TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    -- its id among the checkpoints, where ids of different owners must not meet
    inner_id TEXT NOT NULL UNIQUE,
    graph_id TEXT,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    state_updated REAL NOT NULL,
    status TEXT NOT NULL DEFAULT 'idle',
    metadata TEXT NOT NULL DEFAULT '{}',
    config TEXT NOT NULL DEFAULT '{}',
    interrupts TEXT NOT NULL DEFAULT '{}',
    error TEXT,
    -- the thread of a run that was asked for without one
    hidden INTEGER NOT NULL DEFAULT 0,
    -- it is to be deleted at this time
    expires REAL,
    -- last: what stands behind a large value is slow to read
    state TEXT,
    PRIMARY KEY (owner, thread_id)
);
CREATE INDEX IF NOT EXISTS threads_by_time ON threads (owner, updated);
CREATE INDEX IF NOT EXISTS threads_by_end ON threads (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    assistant_id TEXT NOT NULL,
    graph_id TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    status TEXT NOT NULL,
    strategy TEXT NOT NULL,
    metadata TEXT NOT NULL DEFAULT '{}',
    request TEXT NOT NULL,
    priority INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    -- it may not begin before this time
    due REAL NOT NULL,
    -- the checkpoint that its thread was at before it began: what a rollback goes back to
    base TEXT,
    error TEXT,
    cancel_reason TEXT,
    hook TEXT,
    result TEXT
);
CREATE INDEX IF NOT EXISTS runs_by_thread ON runs (owner, thread_id, created);
CREATE INDEX IF NOT EXISTS runs_by_status ON runs (status) WHERE status IN ('pending', 'running');
CREATE INDEX IF NOT EXISTS runs_by_hook ON runs (hook) WHERE hook IS NOT NULL;
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS events_by_run ON events (run_id, id);
CREATE TABLE IF NOT EXISTS keys_of_requests (
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    digest BLOB NOT NULL,
    run_id TEXT NOT NULL,
    created REAL NOT NULL,
    PRIMARY KEY (owner, key)
);
CREATE TABLE IF NOT EXISTS workflows_seen (
    name TEXT PRIMARY KEY,
    -- when its assistant came to be
    seen REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS assistants (
    owner TEXT NOT NULL,
    assistant_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    PRIMARY KEY (owner, assistant_id)
);
CREATE TABLE IF NOT EXISTS assistant_versions (
    owner TEXT NOT NULL,
    assistant_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    graph_id TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    config TEXT NOT NULL,
    context TEXT NOT NULL,
    metadata TEXT NOT NULL,
    written REAL NOT NULL,
    PRIMARY KEY (owner, assistant_id, version)
);
CREATE TABLE IF NOT EXISTS items (
    owner TEXT NOT NULL,
    -- its labels with dots between them
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    -- what it is found by, each word between blanks
    words TEXT NOT NULL,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    -- minutes that it is kept after it was last used
    ttl REAL,
    expires REAL,
    PRIMARY KEY (owner, namespace, key)
);
CREATE INDEX IF NOT EXISTS items_by_end ON items (expires) WHERE expires IS NOT NULL;
"""
