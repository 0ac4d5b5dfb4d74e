"""Mail by SMTP as a contender: our mailer, or aiosmtplib by hand with as many kept connections.

Modes: `ours`, `hand`, and `serve`, which is the mail server (aiosmtpd) of both.
"""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage

from bench.report import Meter, Task
from handlers.letter import compose
from handlers.stores.processed import Delivery
from handlers.user_created import WELCOME
from streamproc.adapters.mail import MailOptions
from streamproc.adapters.smtp import SmtpMailer

CONNECTIONS, AT_ONCE = 4, 16
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class MailTask(Task):
    """Also: the port of the mail server."""

    port: int = 0


def letter(number: int) -> EmailMessage:
    """A welcome."""
    delivery = Delivery("bench/events", f"e-{number}", b"")
    return compose(WELCOME, {"name": f"User {number}"}, delivery, to=f"user-{number}@example.com", date=NOW)


async def ours(meter: Meter, task: MailTask) -> None:
    """As functions send it: many wait for a connection."""
    mailer = SmtpMailer(MailOptions(transport="smtp", host="127.0.0.1", port=task.port, connections=CONNECTIONS))
    numbers = iter(range(task.count + AT_ONCE))

    async def send_some() -> None:
        for number in numbers:
            if meter.done:
                return
            await mailer.send(letter(number))
            meter.add(1)

    await asyncio.gather(*(send_some() for _ in range(AT_ONCE)))
    await mailer.close()


async def by_hand(meter: Meter, task: MailTask) -> None:
    """A loop for each connection."""
    import aiosmtplib

    numbers = iter(range(task.count + AT_ONCE))

    async def send_some() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=task.port, start_tls=False) as client:
            for number in numbers:
                if meter.done:
                    return
                await client.send_message(letter(number))
                meter.add(1)

    await asyncio.gather(*(send_some() for _ in range(CONNECTIONS)))


class Sink:
    """Takes every message and keeps none."""

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        """Accepts it."""
        return "250 OK"


def serve(port: int) -> None:
    """Runs the mail server until it is ended."""
    from aiosmtpd.controller import Controller

    controller = Controller(Sink(), hostname="127.0.0.1", port=port)
    controller.start()
    sys.stdin.read()
    controller.stop()


def main(task: MailTask) -> int:
    """Sends until all is counted."""
    import uvloop

    meter = Meter(task)
    uvloop.run(ours(meter, task) if task.mode == "ours" else by_hand(meter, task))
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve(int(sys.argv[2]))
    else:
        sys.exit(main(MailTask.from_arguments()))
