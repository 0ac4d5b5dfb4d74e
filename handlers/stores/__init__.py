"""What the functions keep: one file per table, SQL in no other place. Migrations are numbered SQL files."""

from typing import Literal

Claim = Literal["new", "repeat", "conflict"]
"""What an event id is: not seen before, seen with the same content, or seen with another content."""
