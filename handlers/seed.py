"""Something to work on: users and stock, for the demo and for trying things out."""

from datetime import UTC, datetime

from handlers.services import Services
from handlers.stores.users import User


async def seed(services: Services, *, users: int, skus: int, quantity: int) -> None:
    """Makes users u-0.. and skus sku-0.. with `quantity` of each, and sku-none, of which there is none.

    One transaction each; what exists stays as it is, so a second time changes nothing.
    """
    now = datetime.now(UTC)
    await services.users.add(User(f"u-{n}", f"u-{n}@example.com", f"User {n}", now) for n in range(users))
    await services.stock.add({f"sku-{n}": quantity for n in range(skus)} | {"sku-none": 0})
