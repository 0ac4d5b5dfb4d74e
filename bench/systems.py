"""Does each system of the application add up? What the API said, against rows, events, mails and dead letters."""

import base64
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bench import nightly, uploads
from bench.generate import NUMBER, ORDER, USER
from bench.sinks import Stored, mailed
from bench.visitors import PROBES, Answers
from handlers.sensor_reading import ALERT_PAUSE, HOT

ALERT, PICTURE = "temperature.alert", "s3.event"
CONFIRMED = "SELECT substr(run_id, 7) FROM workflow_legs WHERE leg = 'confirmation' AND state = 'done'"
UNDONE = "SELECT DISTINCT substr(run_id, 7) FROM workflow_legs WHERE run_id LIKE 'order/%' AND state = 'undone'"
REJECTED = "SELECT substr(run_id, 7), result FROM workflow_legs WHERE run_id LIKE 'order/%' AND state = 'rejected'"

Counts = dict[str, Any]
ALERTS = (
    "SELECT count(*) FROM readings WHERE temperature > :hot",
    "SELECT count(*) FROM readings a WHERE temperature > :hot AND EXISTS (SELECT 1 FROM alerts b"
    " WHERE a.sensor_id = b.sensor_id AND abs(a.timestamp - b.timestamp) < :pause)",
    "SELECT count(*) FROM alerts",
    "SELECT count(*) FROM alerts a JOIN alerts b USING (sensor_id)"
    " WHERE a.timestamp < b.timestamp AND b.timestamp < a.timestamp + :pause",
)


def systems(
    answers: Answers, folder: Path, *, events: Iterable[Stored], letters: Sequence[Stored]
) -> Mapping[str, Counts]:
    """System -> its counts, and whether they are `balanced`. `letters` are the dead letters of all topics."""
    published, mail = _opened(one for one in events if NUMBER not in one.headers), folder / "mail"
    dead = _opened(letters)
    with closing(sqlite3.connect(f"file:{folder}/shop.db?mode=ro", uri=True)) as connection:
        users = _ids(connection, "SELECT user_id FROM users WHERE email LIKE 'visitor-%'")
        intruders = _ids(connection, "SELECT user_id FROM users WHERE email LIKE 'intruder-%'")
        orders = _ids(connection, "SELECT order_id FROM orders WHERE order_id NOT LIKE 'o-%'")
        stored = _ids(connection, "SELECT event_id FROM readings WHERE event_id NOT LIKE 'demo-%'")
        waiting = connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
        welcomed = set(mailed(connection, mail, "send_welcome_email"))
        written = users | orders
        return {
            "users_api": _users(answers, users, set(published[USER]), welcomed),
            "auth": _auth(answers, intruders),
            "outbox": _outbox(written, set(published[USER]) | set(published[ORDER]), waiting),
            "welcome_mail": _balanced({"users": len(users), "mails": len(welcomed & users)}, users <= welcomed),
            "orders": _orders(connection, answers, orders, events=set(published[ORDER]), mail=mail),
            "workflow": _workflow(connection, mail, dead=dead[ORDER]),
            "sensors": _balanced(
                {"accepted": answers.readings, "stored": len(stored)}, answers.readings == len(stored) > 0
            ),
            "alerts": _alerts(connection, published[ALERT], set(mailed(connection, mail, "send_alert_mail"))),
            "pictures": uploads.account(folder / "objects", dead[PICTURE].values()),
            "schedule": nightly.account(folder, letters),
        }


def _users(answers: Answers, rows: set[str], events: set[str], mailed: set[str]) -> Counts:
    registered = set(answers.users)
    counts = {
        "registered": len(registered),
        "rows": len(rows),
        "events": len(events & rows),
        "mails": len(mailed & rows),
    }
    return _balanced(counts, registered == rows == events & rows == mailed & rows)


def _auth(answers: Answers, intruders: set[str]) -> Counts:
    counts = {
        "asked": 3 * PROBES,
        "unauthorized": answers.refused[401],
        "forbidden": answers.refused[403],
        "let_in": len(intruders),
    }
    return _balanced(counts, answers.refused == {401: 2 * PROBES, 403: PROBES} and not intruders)


def _outbox(written: set[str], published: set[str], waiting: int) -> Counts:
    counts = {"written": len(written), "published": len(published & written), "waiting": waiting}
    return _balanced(counts, written <= published and not waiting)


def _orders(
    connection: sqlite3.Connection, answers: Answers, rows: set[str], *, events: set[str], mail: Path
) -> Counts:
    """What became of the orders that were placed over the API."""
    placed = set(answers.orders)
    confirmed = _ids(connection, CONFIRMED) & rows
    reasons = dict(connection.execute(REJECTED))
    short = {order for order in rows if reasons.get(order) == "out_of_stock"}
    declined = {order for order in rows if reasons.get(order) == "payment_declined"}
    counts = {
        "placed": len(placed),
        "rows": len(rows),
        "events": len(events & rows),
        "confirmed": len(confirmed),
        "mails": len(set(mailed(connection, mail, "fulfil_order")) & rows),
        "out_of_stock": len(short),
        "declined": len(declined),
    }
    as_asked = (len(short), len(declined)) == (answers.short, answers.declined)
    ended = len(confirmed) + len(short) + len(declined) == len(placed) and counts["mails"] == len(confirmed)
    return _balanced(counts, placed == rows == events & rows and as_asked and ended)


def _workflow(connection: sqlite3.Connection, mail: Path, *, dead: Mapping[str, Any]) -> Counts:
    """All orders, those of the stream too: each is confirmed, or compensated and a dead letter; nothing is left over.

    What was refused before anything was paid or taken is a dead letter alone.
    """
    confirmed, undone = _ids(connection, CONFIRMED), _ids(connection, UNDONE)
    begun = _ids(connection, "SELECT DISTINCT substr(run_id, 7) FROM workflow_legs WHERE run_id LIKE 'order/%'")
    letters = {letter["orderId"] for letter in dead.values() if isinstance(letter.get("orderId"), str)} & begun
    kept = _ids(connection, "SELECT substr(key, 7, length(key) - 14) FROM payments WHERE state = 'kept'")
    taken = _ids(connection, "SELECT order_id FROM orders WHERE taken_at IS NOT NULL")
    counts = {
        "orders": len(begun),
        "confirmed": len(confirmed),
        "compensated": len(undone),
        "dead_letters": len(letters),
        "payments_kept": len(kept),
        "stock_taken": len(taken),
        "mails": len(mailed(connection, mail, "fulfil_order")),
    }
    ended = confirmed | letters == begun and not confirmed & letters and undone <= letters
    return _balanced(counts, ended and confirmed == kept == taken and counts["mails"] == len(confirmed))


def _alerts(connection: sqlite3.Connection, events: Mapping[str, Any], mails: set[str]) -> Counts:
    """Each hot reading has an alert of its sensor near it, no two alerts are near each other, and each was told."""
    limits = {"hot": HOT, "pause": ALERT_PAUSE.total_seconds()}
    hot, told, rows, near = (connection.execute(query, limits).fetchone()[0] for query in ALERTS)
    counts = {"hot": hot, "alerts": rows, "events": len(events), "mails": len(mails)}
    return _balanced(counts, hot == told and near == 0 and rows == len(events) == len(mails) > 0)


def _balanced(counts: Counts, holds: bool) -> Counts:
    return {**counts, "balanced": holds}


def _ids(connection: sqlite3.Connection, query: str) -> set[str]:
    return {row[0] for row in connection.execute(query)}


def _opened(records: Iterable[Stored]) -> defaultdict[str, dict[str, Any]]:
    """Event type -> event id, or the record's number among them -> event, of what can be read."""
    found: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for number, record in enumerate(records):
        try:
            envelope = json.loads(record.value)
            event = json.loads(base64.b64decode(envelope["kinesis"]["data"])) if "kinesis" in envelope else envelope
            kind = event.get("type", PICTURE)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # a record that was bad on purpose
        found[str(kind)][str(envelope.get("eventID") or number)] = event
    return found
