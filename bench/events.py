"""The event the benchmarks decode."""

from streamproc import Event


class SensorReading(Event, tag="sensor.reading"):
    """A reading."""

    sensor_id: str
    timestamp: str
    temperature: float
    humidity: float
