-- Times are in seconds since the Unix epoch.

CREATE TABLE users (
    user_id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    email_key TEXT NOT NULL UNIQUE, -- the address as it is compared: NFKC, case folded
    name TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE stock (
    sku TEXT NOT NULL PRIMARY KEY,
    quantity INTEGER NOT NULL CHECK (quantity >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    order_id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    placed_at REAL NOT NULL,
    event_id TEXT, -- of the event that took the stock; null until then
    taken_at REAL,
    CHECK ((event_id IS NULL) = (taken_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE order_items (
    order_id TEXT NOT NULL REFERENCES orders (order_id),
    sku TEXT NOT NULL, -- of no table: whether there is such a sku is seen when stock is taken
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
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
