-- Roles of the shop with the rights they need and no more: one that owns the tables and migrates, one that serves.
-- For psql, as a superuser, in the database of the shop. Before the first `streamproc migrate` it makes the roles, and
-- after every one it sets the rights on the tables; it may be run at any time.
--
--   createdb shop
--   psql -d shop -f deploy/postgres.sql
--   psql -d shop -c '\password shop_owner' -c '\password shop_app'
--   streamproc migrate --set store.url=postgresql://shop_owner@localhost/shop
--   psql -d shop -f deploy/postgres.sql
--
-- Other names: -v owner=... -v app=...

\set ON_ERROR_STOP on
\if :{?owner}
\else
  \set owner shop_owner
\endif
\if :{?app}
\else
  \set app shop_app
\endif

BEGIN;

SELECT format('CREATE ROLE %I LOGIN', name) FROM (VALUES (:'owner'), (:'app')) AS role (name)
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

SELECT current_database() AS database \gset
REVOKE ALL ON DATABASE :"database" FROM PUBLIC, :"app";
REVOKE ALL ON SCHEMA public FROM PUBLIC, :"app";
GRANT CONNECT ON DATABASE :"database" TO :"owner", :"app";
GRANT USAGE ON SCHEMA public TO :"owner", :"app";
GRANT CREATE ON SCHEMA public TO :"owner";

-- What the application does, by table. An identity column needs no right on its sequence; what a conflict or a WHERE
-- compares must be readable; FOR UPDATE needs a column that may be updated.
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"app";
SELECT format('GRANT %s ON %I TO %I', rights, name, :'app') FROM (VALUES
  ('schema_version', 'SELECT (part, version, name, checksum)'),
  ('outbox', 'SELECT (number, topic, key, value, headers), INSERT (topic, key, value, headers), DELETE'),
  ('firings', 'SELECT, INSERT, UPDATE (state, lease_until, ended_at), DELETE'),
  ('users', 'SELECT (user_id, email, name, created_at), INSERT (user_id, email, email_key, name, created_at)'),
  ('stock', 'SELECT (sku, quantity, price), INSERT (sku, quantity, price), UPDATE (quantity)'),
  ('orders', 'SELECT (order_id, user_id, placed_at, taken_at), UPDATE (taken_at), '
             'INSERT (order_id, user_id, placed_at)'),
  ('order_items', 'SELECT (order_id, sku, quantity), INSERT (order_id, sku, quantity)'),
  ('payments', 'SELECT (key, state, requests), INSERT (key, amount, state, requests), UPDATE (state, requests)'),
  ('workflow_legs', 'SELECT, INSERT, UPDATE (state, attempts, started_at, ended_at, result, detail)'),
  ('readings', 'SELECT, INSERT, DELETE, UPDATE (event_id, temperature, humidity, processed_at, deliveries)'),
  ('alerts', 'SELECT (sensor_id, timestamp), INSERT (sensor_id, timestamp, temperature)'),
  ('processed', 'SELECT (scope, event_id, fingerprint, deliveries), UPDATE (deliveries), '
                'INSERT (scope, event_id, fingerprint, deliveries)')
) AS needed (name, rights)
WHERE to_regclass(name) IS NOT NULL \gexec

COMMIT;
