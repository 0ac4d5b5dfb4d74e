"""Serverless event functions on your own Kafka. Everything an application needs is named here."""

from streamproc.app import App, Http, Stream
from streamproc.context import BatchContext, Context
from streamproc.errors import BrokerError, ConfigError, HandlerError, StreamprocError
from streamproc.http.answer import Accepted, Answer, Body, Created, NoContent, Problem
from streamproc.http.context import HttpContext
from streamproc.model import Event, Failures, Reject, RetryLater

__all__ = [
    "Accepted",
    "Answer",
    "App",
    "BatchContext",
    "Body",
    "BrokerError",
    "ConfigError",
    "Context",
    "Created",
    "Event",
    "Failures",
    "HandlerError",
    "Http",
    "HttpContext",
    "NoContent",
    "Problem",
    "Reject",
    "RetryLater",
    "Stream",
    "StreamprocError",
]
