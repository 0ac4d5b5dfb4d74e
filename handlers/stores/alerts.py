"""Which readings raise an alert. Decisions only."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from streamproc.model import OutRecord

if TYPE_CHECKING:
    from handlers.stores.readings import Reading


class AlertRule(NamedTuple):
    """Readings above so many degrees Celsius raise one, unless another of their sensor is less than `pause` away.

    Times are those of the readings, so that it does not matter when they are processed. `event_of` makes an alert's
    event.
    """

    above: float
    pause: timedelta
    event_of: "Callable[[Reading], OutRecord]"


def raising(hot: "Sequence[Reading]", earlier: Iterable[tuple[str, float]], pause: timedelta) -> "list[Reading]":
    """Those of the hot readings that raise an alert; `earlier` has sensor and time (s) of the alerts so far."""
    alerts: defaultdict[str, list[float]] = defaultdict(list)
    for sensor_id, second in earlier:
        alerts[sensor_id].append(second)
    found: list[Reading] = []
    for reading in hot:
        second = reading.timestamp.timestamp()
        if all(abs(second - other) >= pause.total_seconds() for other in alerts[reading.sensor_id]):
            alerts[reading.sensor_id].append(second)
            found.append(reading)
    return found
