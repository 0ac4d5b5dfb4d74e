"""Mail as files: each message one `.eml` in a maildir (D. J. Bernstein, "Using maildir format"), for development."""

import asyncio
import hashlib
import os
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta


class MailOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[mail]`."""

    directory: Annotated[str, Meta(description="maildir that mail is written to")] = "data/mail"


class Maildir:
    """Writes mail to `new/` of a folder. The name of a file follows from its Message-ID: a repeat replaces it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for part in ("tmp", "new", "cur"):
            (directory / part).mkdir(parents=True, exist_ok=True)

    async def send(self, message: EmailMessage) -> None:
        """See the port. The file is whole when it appears."""
        await asyncio.to_thread(self._write, str(message["Message-ID"]), message.as_bytes())

    def _write(self, message_id: str, content: bytes) -> None:
        name = f"{hashlib.sha256(message_id.encode()).hexdigest()[:40]}.eml"
        part = self._directory / "tmp" / f"{name}.{os.getpid()}"
        part.write_bytes(content)
        part.replace(self._directory / "new" / name)
