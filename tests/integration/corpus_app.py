"""The application the corpus of bad input is played to: its functions do nothing."""

from streamproc import App, Context, Event, Stream
from tests.corpus.events import EVENTS


async def take(event: Event, ctx: Context[None]) -> None:
    """Does nothing."""


app = App(functions=[Stream(event, take, name=event.__name__) for event in EVENTS])
