CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- never used again, so that a late remove hits nothing new
    topic TEXT NOT NULL,
    key BLOB,
    value BLOB,
    headers BLOB NOT NULL,
    created_at REAL NOT NULL
) STRICT;
