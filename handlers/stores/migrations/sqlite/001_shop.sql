CREATE TABLE users (
    user_id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE stock (
    sku TEXT NOT NULL PRIMARY KEY,
    quantity INTEGER NOT NULL CHECK (quantity >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    processed_at REAL NOT NULL
) STRICT;

CREATE TABLE order_items (
    order_row INTEGER NOT NULL REFERENCES orders (id),
    sku TEXT NOT NULL REFERENCES stock (sku),
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_row, sku)
) STRICT, WITHOUT ROWID;

CREATE TABLE readings (
    scope TEXT NOT NULL,
    event_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    sensor_id TEXT NOT NULL,
    timestamp REAL NOT NULL,
    temperature REAL NOT NULL,
    humidity REAL NOT NULL,
    processed_at REAL NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (scope, event_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE processed (
    scope TEXT NOT NULL,
    event_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (scope, event_id)
) STRICT, WITHOUT ROWID;
