"""Sends a letter once for each event."""

from collections.abc import Mapping

from handlers.letter import Letter, compose
from handlers.services import Services
from handlers.stores.processed import Refused, delivery
from streamproc import Context, Event, Reject
from streamproc.errors import MailRefused


async def mail_once(
    letter: Letter, values: Mapping[str, str], ctx: Context[Services], *, event: Event, to: str
) -> Reject | None:
    """Sends it unless it was sent for this event id; a crash before the record sends the same message again."""
    this, services = delivery(event, ctx, function=ctx.function), ctx.services
    try:
        mail = compose(letter, values, this, to=to, date=ctx.record_time)
        if await services.processed.claim(this):
            await services.mailer.send(mail)
            await services.processed.record(this)
    except Refused as refused:
        return refused.outcome
    except MailRefused as refused:
        return Reject("mail_refused", str(refused))
    return None
