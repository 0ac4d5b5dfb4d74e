CREATE TABLE workflow_legs (
    run_id TEXT NOT NULL,
    leg TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('done', 'failed', 'rejected', 'undone')),
    attempts INTEGER NOT NULL,
    started_at REAL NOT NULL, -- seconds since the Unix epoch
    ended_at REAL NOT NULL,
    result TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (run_id, leg)
) STRICT, WITHOUT ROWID;
