-- Keys are compared as bytes (COLLATE "C"), as in SQLite: pages have one order, whatever the locale of the database.

CREATE TABLE users (
    user_id text COLLATE "C" PRIMARY KEY,
    email text NOT NULL,
    email_key text COLLATE "C" NOT NULL UNIQUE, -- the address as it is compared: NFKC, case folded
    name text NOT NULL,
    created_at timestamptz NOT NULL
);

CREATE TABLE stock (
    sku text COLLATE "C" PRIMARY KEY,
    quantity bigint NOT NULL CHECK (quantity >= 0)
);

CREATE TABLE orders (
    order_id text COLLATE "C" PRIMARY KEY,
    user_id text NOT NULL,
    placed_at timestamptz NOT NULL,
    event_id text, -- of the event that took the stock; null until then
    taken_at timestamptz,
    CHECK ((event_id IS NULL) = (taken_at IS NULL))
);

CREATE TABLE order_items (
    order_id text COLLATE "C" NOT NULL REFERENCES orders (order_id),
    sku text COLLATE "C" NOT NULL, -- of no table: whether there is such a sku is seen when stock is taken
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
);

CREATE TABLE readings (
    scope text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    sensor_id text NOT NULL,
    timestamp timestamptz NOT NULL,
    temperature double precision NOT NULL,
    humidity double precision NOT NULL,
    processed_at timestamptz NOT NULL,
    deliveries integer NOT NULL DEFAULT 1,
    PRIMARY KEY (scope, event_id)
);

CREATE TABLE processed (
    scope text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    deliveries integer NOT NULL DEFAULT 1,
    PRIMARY KEY (scope, event_id)
);
