"""Something to work on: users and stock, for the demo and for trying things out."""

from handlers.services import Services
from handlers.stores.users import User


async def seed(services: Services, *, users: int, skus: int, quantity: int) -> None:
    """Makes users u-0 to u-(users-1) and skus sku-0 to sku-(skus-1) with `quantity` pieces each, as new."""
    await services.users.add(User(f"u-{n}", f"u-{n}@example.com", f"User {n}") for n in range(users))
    await services.stock.put({f"sku-{n}": quantity for n in range(skus)})
