CREATE TABLE firings (
    schedule TEXT NOT NULL,
    fire_at REAL NOT NULL, -- seconds since the Unix epoch
    state TEXT NOT NULL CHECK (state IN ('since', 'due', 'running', 'done', 'failed', 'skipped', 'missed')),
    lease_until REAL NOT NULL,
    ended_at REAL,
    PRIMARY KEY (schedule, fire_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX firings_open ON firings (schedule, fire_at) WHERE state IN ('due', 'running');
