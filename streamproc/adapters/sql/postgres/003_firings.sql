CREATE TABLE firings (
    schedule text COLLATE "C" NOT NULL,
    fire_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('since', 'due', 'running', 'done', 'failed', 'skipped', 'missed')),
    lease_until timestamptz NOT NULL,
    ended_at timestamptz,
    PRIMARY KEY (schedule, fire_at)
);
CREATE INDEX firings_open ON firings (schedule, fire_at) WHERE state IN ('due', 'running');
