CREATE TABLE users (
    user_id TEXT PRIMARY KEY,
    email TEXT NOT NULL,
    name TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE stock (
    sku TEXT PRIMARY KEY,
    quantity INTEGER NOT NULL CHECK (quantity >= 0)
) WITHOUT ROWID;

CREATE TABLE orders (
    order_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    taken_at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE readings (
    event_id TEXT PRIMARY KEY,
    sensor_id TEXT NOT NULL,
    measured_at REAL NOT NULL,
    temperature REAL NOT NULL,
    humidity REAL NOT NULL,
    processed_at REAL NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 1
) WITHOUT ROWID;

CREATE TABLE processed (
    scope TEXT NOT NULL,
    event_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (scope, event_id)
) WITHOUT ROWID
