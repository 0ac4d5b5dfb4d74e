"""Orders through the whole pipeline, into real stores."""

from collections.abc import Callable
from typing import Any

import pytest

from handlers.app import app
from handlers.fulfilment import FULFIL
from handlers.order_placed import Item, OrderPlaced
from handlers.payments import ANSWER_LOST, DECLINED, NEVER_ANSWERS
from handlers.services import Services
from handlers.stores.users import User
from streamproc import testing
from streamproc.model import OutRecord
from tests.contract.stores import NOON
from tests.unit.handlers.conftest import Mails, Query

Record = Callable[[OrderPlaced, str], OutRecord]
PAYMENTS = "SELECT key, amount, state, requests FROM payments ORDER BY key"
LEFT = "SELECT quantity FROM stock ORDER BY sku"


def order(*items: tuple[str, int], order_id: str = "o-1", card: str = "") -> OrderPlaced:
    return OrderPlaced(order_id, "u-1", [Item(sku, quantity) for sku, quantity in items], card)


async def fulfil(services: Services, *records: Any) -> testing.Result:
    await services.users.add([User("u-1", "u@example.com", "Ümit", NOON)])
    await services.stock.add({"a": 10, "b": 10}, price=250)
    return await testing.run(app, records, services=services)


async def legs(services: Services, order_id: str = "o-1") -> dict[str, tuple[str, int, str]]:
    found = await services.journal.read(FULFIL.run_id(order_id))
    return {one.leg: (one.state, one.attempts, one.result) for one in found}


async def test_an_order_is_paid_taken_and_confirmed(services: Services, query: Query, mails: Mails) -> None:
    result = await fulfil(services, order(("a", 2), ("b", 1)))
    assert result.count("ok") == 1
    assert query(LEFT) == [(8,), (9,)]
    assert query(PAYMENTS) == [("order/o-1/payment", 750, "kept", 1)]
    [mail] = mails()
    assert (mail["To"], mail["Subject"]) == ("u@example.com", "Your order o-1")
    assert "Dear Ümit,\n\nwe have your order o-1, and 7.50 for it." in mail.get_body(("plain",)).get_content()
    assert await legs(services) == {
        "validate": ("done", 1, "750"),
        **dict.fromkeys(("payment", "inventory", "confirmation"), ("done", 1, "")),
    }


async def test_a_repeat_has_no_further_effect(services: Services, record: Record, query: Query, mails: Mails) -> None:
    first, second = order(("a", 2), ("b", 1)), order(("a", 1), order_id="o-2")
    records = [record(first, "e-1"), record(first, "e-1"), record(first, "e-9"), record(second, "e-2")]
    result = await fulfil(services, *records)
    assert (result.count("ok"), len(mails())) == (4, 2)
    assert query(LEFT) == [(7,), (9,)]
    assert [row[3] for row in query(PAYMENTS)] == [1, 1]
    assert query("SELECT scope, event_id FROM processed ORDER BY event_id") == [
        ("fulfil_order/events", "e-1"),
        ("fulfil_order/events", "e-2"),
    ]


async def test_the_same_sku_twice_counts_as_the_sum(services: Services, query: Query) -> None:
    result = await fulfil(services, order(("a", 6), ("a", 5)), order(("a", 6), ("a", 4), order_id="o-2"))
    assert result.dead_letters == [testing.DeadLetter("out_of_stock", "test-0")]
    assert query(LEFT) == [(0,), (10,)]


async def test_short_stock_refunds_the_payment(services: Services, query: Query, mails: Mails) -> None:
    result = await fulfil(services, order(("a", 1), ("b", 11)))
    assert result.dead_letters == [testing.DeadLetter("out_of_stock", "test-0")]
    assert result.dead_letters[0].message == "sku 'b': 11 ordered, 10 left"
    assert (query(LEFT), query(PAYMENTS)) == ([(10,), (10,)], [("order/o-1/payment", 3000, "refunded", 1)])
    assert await legs(services) == {
        "validate": ("done", 1, "3000"),
        "payment": ("undone", 1, "out_of_stock"),
        "inventory": ("rejected", 1, "out_of_stock"),
    }
    assert not mails()


async def test_a_declined_card_gives_the_stock_back(services: Services, query: Query) -> None:
    result = await fulfil(services, order(("a", 1), card=DECLINED))
    assert result.dead_letters == [testing.DeadLetter("payment_declined", "test-0")]
    assert (query(LEFT), query(PAYMENTS)) == ([(10,), (10,)], [])
    assert (await legs(services))["inventory"] == ("undone", 1, "payment_declined")


async def test_a_payment_whose_answer_was_lost_is_asked_for_again_and_kept_once(
    services: Services, query: Query, mails: Mails
) -> None:
    result = await fulfil(services, order(("a", 1), card=ANSWER_LOST))
    assert (result.count("ok"), result.count("retried")) == (1, 1)
    assert query(PAYMENTS) == [("order/o-1/payment", 250, "kept", 2)]
    assert (await legs(services))["inventory"] == ("done", 1, "")
    assert len(mails()) == 1


async def test_a_payment_of_which_nobody_knows_is_voided_in_the_end(services: Services, query: Query) -> None:
    result = await fulfil(services, order(("a", 1), card=NEVER_ANSWERS))
    assert result.dead_letters == [testing.DeadLetter("retries_exhausted", "test-0")]
    assert result.dead_letters[0].message == "payment: TimeoutError"
    assert query(PAYMENTS) == [("order/o-1/payment", 0, "void", 0)]
    assert (query(LEFT), (await legs(services))["payment"][:2]) == ([(10,), (10,)], ("undone", 10))


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (order(("a", 1), ("z", 1)), "unknown_sku"),
        (OrderPlaced("o-1", "nobody", [Item("a", 1)]), "unknown_user"),
    ],
    ids=["sku", "user"],
)
async def test_what_cannot_be_delivered_is_not_paid_for(
    services: Services, query: Query, wanted: OrderPlaced, reason: str
) -> None:
    result = await fulfil(services, wanted)
    assert result.dead_letters == [testing.DeadLetter(reason, "test-0")]
    assert query(PAYMENTS) == []
    assert query("SELECT * FROM orders") == []


async def test_another_order_of_the_same_event_id_is_a_dead_letter(
    services: Services, record: Record, query: Query
) -> None:
    records = [record(order(("a", 1)), "e-1"), record(order(("b", 2), order_id="o-2"), "e-1")]
    result = await fulfil(services, *records)
    assert result.dead_letters == [testing.DeadLetter("conflict", "e-1")]
    assert query(LEFT) == [(9,), (10,)]


async def test_the_same_order_with_other_items_is_a_dead_letter_and_changes_nothing(
    services: Services, query: Query
) -> None:
    result = await fulfil(services, order(("a", 1)), order(("a", 2)), order(("a", 1), card=DECLINED), order(("a", 1)))
    assert result.dead_letters == [testing.DeadLetter("conflict", f"test-{n}") for n in (1, 2)]
    assert query(LEFT) == [(9,), (10,)]
    assert query(PAYMENTS) == [("order/o-1/payment", 250, "kept", 1)]


async def test_a_user_whose_address_takes_no_mail_gets_everything_back(services: Services, query: Query) -> None:
    await services.users.add([User("u-1", "no address", "U", NOON)])
    result = await fulfil(services, order(("a", 1)))
    assert result.dead_letters == [testing.DeadLetter("injection", "test-0")]
    assert query(LEFT) == [(10,), (10,)]
    assert [row[2] for row in query(PAYMENTS)] == ["refunded"]


@pytest.mark.parametrize(
    "card", ["'; DROP TABLE payments; --", "x\r\nBcc: x@example.com", "{card}<b>", "\U0001f600" * 100]
)
async def test_a_card_may_hold_anything_and_is_written_nowhere(
    services: Services, query: Query, mails: Mails, card: str
) -> None:
    result = await fulfil(services, order(("a", 1), card=card))
    assert (result.count("ok"), query(PAYMENTS)) == (1, [("order/o-1/payment", 250, "kept", 1)])
    [mail] = mails()
    written = [mail.as_string(), *map(str, query("SELECT * FROM workflow_legs")), str(query("SELECT * FROM orders"))]
    assert (mail["Bcc"], [text for text in written if card in text]) == (None, [])


async def test_many_orders_of_one_sku_add_up(services: Services, query: Query) -> None:
    await services.stock.add({"many": 100})
    result = await fulfil(services, *(order(("many", 1), order_id=f"o-{n}") for n in range(150)))
    assert (result.count("ok"), result.count("dead_lettered")) == (100, 50)
    assert query("SELECT quantity FROM stock WHERE sku = 'many'") == [(0,)]
    assert query("SELECT state, count(*) FROM payments GROUP BY state") == [("kept", 100), ("refunded", 50)]
