"""Errors, named by who must act on them."""


class StreamprocError(Exception):
    """Base of every error this package raises on purpose."""


class ConfigError(StreamprocError):
    """The person who configures or declares the app must act: a wrong setting, option or command line."""


class BrokerError(StreamprocError):
    """The person who runs Kafka must act, or the call may be repeated: the broker refused or did not answer."""


class HandlerError(StreamprocError):
    """The author of a function must act: it returned something that is not an outcome, or ran too long."""


class RecordRefused(BrokerError):
    """The author of a record must act: the broker will never take it as it is, however often it is sent."""


class RecordTooLarge(RecordRefused):
    """The broker refuses a record for its size: send less of it."""


class StoreError(StreamprocError):
    """Who runs the database or object store must act, or the call may be repeated: all of it was done, or nothing."""


class ObjectTooLarge(StreamprocError):
    """An object has more bytes than the caller takes: nobody need repeat the call."""


class LegEnded(StoreError):
    """Nobody must act: another process ended the leg of a workflow; a repeat of the call finds what became of it."""

    def __init__(self, run_id: str, leg: str) -> None:
        super().__init__(f"{run_id}: {leg} ended elsewhere meanwhile")


class ComputeLimit(StreamprocError):
    """Nobody need repeat the call: a function took more time or memory than it may, or crashed its process."""


class MailRefused(StreamprocError):
    """Nobody need repeat the call: the mail server will never take this message."""


class Fenced(StreamprocError):
    """Nobody must act: the partition was revoked meanwhile and its next owner repeats the record."""
