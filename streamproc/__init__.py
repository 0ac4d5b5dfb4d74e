"""Serverless event functions on your own Kafka. Everything an application needs is named here."""

from streamproc.app import App, Http, Stream
from streamproc.context import BatchContext, Context
from streamproc.errors import BrokerError, ConfigError, HandlerError, StreamprocError
from streamproc.http.answer import Accepted, Answer, Body, Content, Created, NoContent, Problem
from streamproc.http.context import HttpContext
from streamproc.model import Event, Failures, Reject, RetryLater
from streamproc.s3 import S3Event
from streamproc.schedule.declare import Schedule, TaskDue
from streamproc.workflow import Leg, LegContext, Parallel, Workflow

__all__ = [
    "Accepted",
    "Answer",
    "App",
    "BatchContext",
    "Body",
    "BrokerError",
    "ConfigError",
    "Content",
    "Context",
    "Created",
    "Event",
    "Failures",
    "HandlerError",
    "Http",
    "HttpContext",
    "Leg",
    "LegContext",
    "NoContent",
    "Parallel",
    "Problem",
    "Reject",
    "RetryLater",
    "S3Event",
    "Schedule",
    "Stream",
    "StreamprocError",
    "TaskDue",
    "Workflow",
]
