CREATE TABLE workflow_legs (
    run_id text COLLATE "C" NOT NULL,
    leg text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('done', 'failed', 'rejected', 'undone')),
    attempts integer NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    result text NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (run_id, leg)
);
