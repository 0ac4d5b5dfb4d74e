"""`temperature.alert`: tells people that a sensor is hot."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from handlers.letter import Letter
from handlers.mailing import mail_once
from handlers.services import Services
from streamproc import Context, Event, Reject

ALERT = Letter(
    "{sensor} measures {temperature} degrees", ("Sensor {sensor} measured {temperature} degrees Celsius at {time}.",)
)


class TemperatureAlert(Event, tag="temperature.alert"):
    """A sensor measured more than it should, in degrees Celsius; `timestamp` is the reading's."""

    sensor_id: Annotated[str, Meta(min_length=1, max_length=200)]
    temperature: float
    timestamp: Annotated[datetime, Meta(tz=True)]


async def send_alert_mail(event: TemperatureAlert, ctx: Context[Services]) -> Reject | None:
    """Tells the operators, once per event id."""
    time = event.timestamp.isoformat(timespec="seconds")
    values = {"sensor": event.sensor_id, "temperature": f"{event.temperature:.1f}", "time": time}
    return await mail_once(ALERT, values, ctx, event=event, to=ctx.services.operators)
