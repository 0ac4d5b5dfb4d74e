"""Mail as files, for development: each message is one `.eml` in a maildir (`tmp` while written, then `new`)."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from email.message import EmailMessage
from os import getpid
from pathlib import Path

from streamproc.adapters.mail import to_bytes
from streamproc.errors import ConfigError


class Maildir:
    """A Mailer that writes to a folder. The file's name follows from the Message-ID, so a repeat replaces it."""

    def __init__(self, directory: str | Path) -> None:
        """Makes the folder. Raises ConfigError when that cannot be done."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="maildir")
        self._tmp, self._new = Path(directory, "tmp"), Path(directory, "new")
        try:
            for folder in (self._tmp, self._new, Path(directory, "cur")):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"mail.directory: {directory} cannot be used: {error.strerror}") from None

    async def send(self, message: EmailMessage) -> None:
        """See the port. A file in `new` is always whole; it is not forced to disk."""
        await asyncio.get_running_loop().run_in_executor(self._writer, self._write, message)

    async def close(self) -> None:
        """Finishes what is being written and takes no more."""
        await asyncio.to_thread(self._writer.shutdown)

    def _write(self, message: EmailMessage) -> None:
        content = to_bytes(message)
        message_id = str(message["Message-ID"] or "").encode(errors="surrogateescape") or content
        name = hashlib.sha256(message_id).hexdigest()[:40] + ".eml"
        unfinished = self._tmp / f"{name}.{getpid()}.{id(self)}"
        try:
            unfinished.write_bytes(content)
            unfinished.replace(self._new / name)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
