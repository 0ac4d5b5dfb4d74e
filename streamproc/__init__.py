"""Serverless event functions on your own Kafka. Everything an application needs is named here."""

from streamproc.app import App, Stream
from streamproc.context import BatchContext, Context
from streamproc.errors import BrokerError, ConfigError, HandlerError, StreamprocError
from streamproc.model import Event, Failures, Reject, RetryLater

__all__ = [
    "App",
    "BatchContext",
    "BrokerError",
    "ConfigError",
    "Context",
    "Event",
    "Failures",
    "HandlerError",
    "Reject",
    "RetryLater",
    "Stream",
    "StreamprocError",
]
