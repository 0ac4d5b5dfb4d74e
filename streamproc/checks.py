"""What is wrong with an app and its settings together, found before anything is connected."""

from typing import Literal

from streamproc.app import App
from streamproc.errors import ConfigError
from streamproc.http.options import is_loopback
from streamproc.settings import Settings, contradictions
from streamproc.stream.wrap import keeps_event_ids

Trigger = Literal["stream", "http", "schedule"]


def check_start(app: App, settings: Settings, only: Trigger | None) -> None:
    """Raises ConfigError, before anything is connected, where functions could not be called, or by anybody."""
    if wrong := contradictions(settings):
        raise ConfigError("\n".join(wrong))
    app.check_topics(settings.stream.topics)
    if only == "http" and not app.http_functions:
        raise ConfigError("--only http: the app has no HTTP functions")
    if only == "stream" and not app.stream_functions:
        raise ConfigError("--only stream: the app has no functions for records")
    if only == "schedule" and not app.schedules:
        raise ConfigError("--only schedule: the app has no schedules")
    auth = settings.auth
    if any(not function.public for function in app.http_functions) and only in (None, "http"):
        if not (auth.secret_file or auth.jwks_url or auth.jwks_file):
            raise ConfigError("auth: set secret_file, jwks_url or jwks_file; without it no token can be checked")
        if auth.development and not is_loopback(settings.http.listen.rpartition(":")[0].strip("[]")):
            raise ConfigError("auth.development: tokens anybody on this machine can sign are for loopback only")
    if app.outbox is not None:
        for number, topic in enumerate(settings.stream.topics):
            form = settings.stream.format_of(topic)
            if not keeps_event_ids(form) and (number == 0 or form != "s3"):  # the outbox's go to the first
                raise ConfigError(f"stream.format: {form} of topic {topic!r} has no place for the outbox's event ids")
