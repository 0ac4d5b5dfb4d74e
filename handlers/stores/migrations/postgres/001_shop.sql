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
    quantity bigint NOT NULL CHECK (quantity >= 0),
    price bigint NOT NULL CHECK (price >= 0) -- of one, in cents
);

CREATE TABLE orders (
    order_id text COLLATE "C" PRIMARY KEY,
    user_id text NOT NULL,
    placed_at timestamptz NOT NULL,
    taken_at timestamptz -- null unless its stock is taken, and was not given back
);

CREATE TABLE order_items (
    order_id text COLLATE "C" NOT NULL REFERENCES orders (order_id),
    sku text COLLATE "C" NOT NULL, -- of no table: whether there is such a sku is seen when stock is taken
    quantity bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
);

CREATE TABLE payments ( -- the ledger of the local payment provider, which shares no transaction with the shop
    key text COLLATE "C" PRIMARY KEY,
    amount bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('kept', 'refunded', 'void')), -- void: refunded before it was charged
    requests integer NOT NULL DEFAULT 1
);

CREATE TABLE readings (
    sensor_id text COLLATE "C" NOT NULL,
    timestamp timestamptz NOT NULL,
    event_id text COLLATE "C" NOT NULL, -- of the event that said so last
    temperature double precision NOT NULL,
    humidity double precision NOT NULL,
    processed_at timestamptz NOT NULL,
    deliveries integer NOT NULL DEFAULT 1,
    PRIMARY KEY (sensor_id, timestamp)
);

CREATE TABLE alerts (
    sensor_id text COLLATE "C" NOT NULL,
    timestamp timestamptz NOT NULL, -- of the reading
    temperature double precision NOT NULL,
    PRIMARY KEY (sensor_id, timestamp)
);

CREATE TABLE processed (
    scope text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    deliveries integer NOT NULL DEFAULT 1,
    PRIMARY KEY (scope, event_id)
);
