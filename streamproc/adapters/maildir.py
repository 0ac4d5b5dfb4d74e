"""Maildir."""

import msgspec


class MailOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[mail]`."""

    directory: str = "data/mail"
