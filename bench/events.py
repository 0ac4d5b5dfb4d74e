"""The event the benchmarks decode."""

from datetime import datetime

from streamproc import Event


class SensorReading(Event, tag="sensor.reading"):
    """A reading."""

    sensor_id: str
    timestamp: datetime
    temperature: float
    humidity: float
