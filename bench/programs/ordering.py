"""Orders as a contender: the application's workflow, or the same effects by hand in one transaction, without legs.

Modes: `workflow`, `no_mail` (the same, but for the mail, which is dropped) and `hand`.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.message import EmailMessage
from typing import Any, NamedTuple

from bench.generate import SHORT_SKU, SKUS, STOCK, USERS
from bench.report import Meter, Task
from handlers.fulfilment import CONFIRMATION, fulfil_order
from handlers.letter import compose
from handlers.order_placed import OrderPlaced, quantities
from handlers.seed import seed
from handlers.services import open_services
from handlers.stores.processed import delivery
from streamproc import App, Context, Reject, Stream
from streamproc.ports import Mailer
from streamproc.service import run
from streamproc.settings import Settings, load


@dataclass(frozen=True)
class OrderTask(Task):
    """Also: the store and its password, and the port of a mail server (0: mail goes to a folder)."""

    store: str = ""
    password: str = ""
    smtp: int = 0


_PLACE = """
WITH noted AS (
    INSERT INTO processed (scope, event_id, fingerprint) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING event_id
), made AS (
    INSERT INTO orders (order_id, user_id, placed_at, taken_at)
    SELECT $4::text, $5::text, $6::timestamptz, $6 FROM noted
    RETURNING order_id
), item AS (
    INSERT INTO order_items (order_id, sku, quantity)
    SELECT order_id, sku, quantity FROM made, unnest($7::text[], $8::bigint[]) AS item (sku, quantity)
    RETURNING sku, quantity
), locked AS (
    SELECT sku, item.quantity, price FROM stock JOIN item USING (sku) ORDER BY sku FOR UPDATE OF stock
), taken AS (
    UPDATE stock SET quantity = stock.quantity - locked.quantity FROM locked WHERE stock.sku = locked.sku
    RETURNING locked.quantity * stock.price AS amount
), paid AS (
    INSERT INTO payments (key, amount, state) SELECT $4, sum(amount), 'kept' FROM taken RETURNING amount
)
SELECT email, name, amount FROM users, paid WHERE user_id = $5
"""


class Dropping:
    """A mailer that sends nothing."""

    async def send(self, message: EmailMessage) -> None:
        """Drops it."""


class Hand(NamedTuple):
    """What the function by hand works with."""

    pool: Any
    mailer: Mailer


async def by_hand(event: OrderPlaced, ctx: Context[Hand]) -> None:
    """One statement, then the mail; a crash in between loses the mail, and a payment cannot be elsewhere."""
    items, this = quantities(event.items), delivery(event, ctx, function="hand")
    row = (*this, event.order_id, event.user_id, ctx.record_time, list(items), list(items.values()))
    email, name, amount = await ctx.services.pool.fetchrow(_PLACE, *row)
    values = {"name": name, "order": event.order_id, "amount": f"{amount / 100:.2f}"}
    await ctx.services.mailer.send(compose(CONFIRMATION, values, this, to=email, date=ctx.record_time))


def app(meter: Meter, task: OrderTask) -> App:
    """One function, which counts the orders that ended."""
    handle: Callable[..., Awaitable[object]] = by_hand if task.mode == "hand" else fulfil_order

    @asynccontextmanager
    async def services(settings: Settings) -> AsyncIterator[object]:
        async with open_services(settings) as opened:
            if task.mode != "hand":
                yield opened if task.mode == "workflow" else replace(opened, mailer=Dropping())
                return
            import asyncpg

            async with asyncpg.create_pool(task.store, password=task.password, max_size=10) as pool:
                yield Hand(pool, opened.mailer)

    async def counted(event: OrderPlaced, ctx: Context[Any]) -> object:
        if any(item.sku == SHORT_SKU for item in event.items):
            return Reject("out_of_stock")  # the same for both
        returned = await handle(event, ctx)
        meter.add(1)
        return returned

    function = Stream(OrderPlaced, counted, key="order_id", concurrency=200, max_retry_attempts=-1)
    return App(functions=[function], services=services)


async def _seed(settings: Settings) -> None:
    async with open_services(settings) as services:
        await seed(services, users=USERS, skus=SKUS, quantity=STOCK)


def main(task: OrderTask) -> int:
    """Runs the service until it is ended."""
    folder = task.report.parent
    flags: dict[str, Any] = {
        "kafka.bootstrap_servers": [task.bootstrap],
        "kafka.group_id": task.group,
        "stream.topics": [task.topic],
        "ops.listen": "127.0.0.1:0",
        "store.url": task.store or f"sqlite:///{folder}/store.db",
        "store.password": task.password,
        "mail.directory": str(folder / "mail"),
        "objects.url": f"file:{folder}/objects",
    }
    if task.smtp:
        flags |= {"mail.transport": "smtp", "mail.host": "127.0.0.1", "mail.port": task.smtp}
    settings = load(None, {}, flags=flags).settings
    asyncio.run(_seed(settings))
    return run(app(Meter(task), task), settings)


if __name__ == "__main__":
    sys.exit(main(OrderTask.from_arguments()))
