"""Which events took effect: what makes an effect happen once per event id.

The row is written in the effect's own transaction, so that both happen or none. `deliveries` counts how often an
event came.
"""

import hashlib
import sqlite3

import msgspec

from handlers.stores import Claim
from streamproc import Event


def fingerprint(event: Event) -> bytes:
    """16 bytes that tell the contents of events apart (BLAKE2b of the event's MessagePack)."""
    return hashlib.blake2b(msgspec.msgpack.encode(event), digest_size=16).digest()


def claim(connection: sqlite3.Connection, scope: str, event_id: str, *, event: Event) -> Claim:
    """Marks an event as processed for `scope`, the function and the topic, and says whether it was before."""
    mark = fingerprint(event)
    row = connection.execute(
        "INSERT INTO processed (scope, event_id, fingerprint) VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET deliveries = deliveries + 1 RETURNING fingerprint, deliveries",
        (scope, event_id, mark),
    ).fetchone()
    if row[1] == 1:
        return "new"
    return "repeat" if row[0] == mark else "conflict"


def seen(connection: sqlite3.Connection, scope: str, event_id: str, *, event: Event) -> Claim:
    """What `claim` would say, without marking anything."""
    query = "SELECT fingerprint FROM processed WHERE scope = ? AND event_id = ?"
    row = connection.execute(query, (scope, event_id)).fetchone()
    if row is None:
        return "new"
    return "repeat" if row[0] == fingerprint(event) else "conflict"
