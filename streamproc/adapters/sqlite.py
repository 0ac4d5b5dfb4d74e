"""SQLite."""

import msgspec


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[store]`."""

    url: str = "sqlite:///data/streamproc.db"
