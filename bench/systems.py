"""Does each system of the application add up? What the API said, against rows, events, mails and dead letters."""

import base64
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.generate import NUMBER, ORDER, USER
from bench.sinks import Stored, mailed_events
from bench.visitors import PROBES, Answers

Counts = dict[str, Any]


def systems(
    answers: Answers, folder: Path, *, events: Iterable[Stored], letters: Iterable[Stored]
) -> Mapping[str, Counts]:
    """System -> its counts, and whether they are `balanced`."""
    published = _ids_by_type(events)
    dead = set().union(*_ids_by_type(letters).values())
    with closing(sqlite3.connect(f"file:{folder}/shop.db?mode=ro", uri=True)) as connection:
        users = _ids(connection, "SELECT user_id FROM users WHERE email LIKE 'visitor-%'")
        intruders = _ids(connection, "SELECT user_id FROM users WHERE email LIKE 'intruder-%'")
        taken = _ids(connection, "SELECT order_id FROM orders WHERE taken_at IS NOT NULL")
        orders = _ids(connection, "SELECT order_id FROM orders WHERE order_id NOT LIKE 'o-%'")
        stored = _ids(connection, "SELECT event_id FROM readings WHERE event_id NOT LIKE 'demo-%'")
        waiting = connection.execute("SELECT count(*) FROM outbox").fetchone()[0]
        mailed = mailed_events(connection, folder / "mail")
    return {
        "users_api": _users(answers, users, published[USER], mailed),
        "auth": _auth(answers, intruders),
        "outbox": _outbox(users | orders, published[USER] | published[ORDER], waiting),
        "welcome_mail": _balanced({"users": len(users), "mails": len(mailed & users)}, users == mailed & users),
        "orders": _orders(answers, orders, published[ORDER] & orders, taken=taken & orders, dead=dead & orders),
        "sensors": _balanced(
            {"accepted": answers.readings, "stored": len(stored)}, answers.readings == len(stored) > 0
        ),
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


def _orders(answers: Answers, rows: set[str], events: set[str], *, taken: set[str], dead: set[str]) -> Counts:
    placed = set(answers.orders)
    counts = {
        "placed": len(placed),
        "rows": len(rows),
        "events": len(events),
        "stock_taken": len(taken),
        "out_of_stock": len(dead),
    }
    ended = taken | dead == placed and not taken & dead
    return _balanced(counts, placed == rows == events and ended and len(dead) == answers.short)


def _balanced(counts: Counts, holds: bool) -> Counts:
    return {**counts, "balanced": holds}


def _ids(connection: sqlite3.Connection, query: str) -> set[str]:
    return {row[0] for row in connection.execute(query)}


def _ids_by_type(records: Iterable[Stored]) -> defaultdict[str, set[str]]:
    """Event type -> event ids, of the records that came over the API: the generator's have a number."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        if NUMBER not in record.headers:
            envelope = json.loads(record.value)
            event = json.loads(base64.b64decode(envelope["kinesis"]["data"]))
            found[event["type"]].add(envelope["eventID"])
    return found
