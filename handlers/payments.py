"""Payments, behind a port; and a provider for development, whose answers depend on the number of the card."""

import asyncio
from typing import Protocol

from handlers.stores.payments import Ledger

DECLINED = "4000000000000002"
NEVER_ANSWERS = "4000000000000119"
ANSWER_LOST = "4000000000000341"
"""Charged, but the first answer does not arrive: nobody knows until the same request is sent again."""


class Declined(Exception):
    """The provider will not charge this card: nothing was charged under this key, and nothing will be."""


class Payments(Protocol):
    """A payment provider. Both calls may be repeated with the same key, whatever became of the first."""

    async def charge(self, key: str, card: str, amount: int) -> None:
        """Charges `amount` cents, once for each key; `card` is what the provider knows it by, "" the one on file.

        Raises Declined, and OSError when it is not known whether it was charged.
        """

    async def refund(self, key: str) -> None:
        """Gives back what was charged under a key, if anything; what is charged under it later is refused."""


class LocalPayments:
    """Charges every card but for its test numbers, and keeps a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def charge(self, key: str, card: str, amount: int) -> None:
        """See the port."""
        if card == DECLINED:
            raise Declined("the card was declined")
        if card == NEVER_ANSWERS:
            await asyncio.Event().wait()
        charge = await self._ledger.charge(key, amount)
        if charge.state != "kept":
            raise Declined("the payment was cancelled before")
        if card == ANSWER_LOST and charge.requests == 1:
            raise ConnectionResetError("the provider's answer was lost")

    async def refund(self, key: str) -> None:
        """See the port."""
        await self._ledger.refund(key)
