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
    quantity INTEGER NOT NULL CHECK (quantity >= 0),
    price INTEGER NOT NULL CHECK (price >= 0) -- of one, in cents
) STRICT, WITHOUT ROWID;

CREATE TABLE orders (
    order_id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    placed_at REAL NOT NULL,
    taken_at REAL -- null unless its stock is taken, and was not given back
) STRICT, WITHOUT ROWID;

CREATE TABLE order_items (
    order_id TEXT NOT NULL REFERENCES orders (order_id),
    sku TEXT NOT NULL, -- of no table: whether there is such a sku is seen when stock is taken
    quantity INTEGER NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
) STRICT, WITHOUT ROWID;

CREATE TABLE payments ( -- the ledger of the local payment provider, which shares no transaction with the shop
    key TEXT NOT NULL PRIMARY KEY,
    amount INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('kept', 'refunded', 'void')), -- void: refunded before it was charged
    requests INTEGER NOT NULL DEFAULT 1
) STRICT, WITHOUT ROWID;

CREATE TABLE readings (
    sensor_id TEXT NOT NULL,
    timestamp REAL NOT NULL,
    event_id TEXT NOT NULL, -- of the event that said so last
    temperature REAL NOT NULL,
    humidity REAL NOT NULL,
    processed_at REAL NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (sensor_id, timestamp)
) STRICT; -- with row ids: rows of many sensors are then written side by side

CREATE TABLE alerts (
    sensor_id TEXT NOT NULL,
    timestamp REAL NOT NULL, -- of the reading
    temperature REAL NOT NULL,
    PRIMARY KEY (sensor_id, timestamp)
) STRICT, WITHOUT ROWID;

CREATE TABLE processed (
    scope TEXT NOT NULL,
    event_id TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (scope, event_id)
) STRICT, WITHOUT ROWID;
