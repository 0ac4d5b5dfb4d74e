"""How every client of this package connects: section `[kafka]` as aiokafka's arguments."""

import functools
import re
import ssl
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from aiokafka import errors
from aiokafka.conn import AIOKafkaConnection, CloseReason
from msgspec import Meta

from streamproc.errors import BrokerError, ConfigError


def _closed_is_broken(write: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(write)
    def wrapped(self: AIOKafkaConnection, *arguments: Any, **named: Any) -> Any:
        try:
            return write(self, *arguments, **named)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN)
            raise errors.KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error

    return wrapped


# A closed transport of uvloop raises RuntimeError. The client expects OSError, and a task of it that met the other
# ended: the client never learned of a broker again, and nothing was read (aio-libs/aiokafka#1038).
AIOKafkaConnection.send = _closed_is_broken(AIOKafkaConnection.send)
AIOKafkaConnection._send_sasl_token = _closed_is_broken(AIOKafkaConnection._send_sasl_token)

_SERVER = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^\s:@/\[\]]+):(\d{1,5})")
"""host:port, where an IPv6 address is in brackets."""


class KafkaOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[kafka]`. Durations are in seconds, sizes in bytes."""

    bootstrap_servers: Annotated[list[str], Meta(min_length=1, description="host:port each")] = msgspec.field(
        default_factory=lambda: ["localhost:9092"]
    )
    group_id: Annotated[str, Meta(min_length=1, description="consumer group")] = "streamproc"
    client_id: Annotated[str, Meta(description="name in the broker's logs")] = "streamproc"
    instance_id: Annotated[str, Meta(description="static membership; the process adds its index")] = ""
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Meta(description="how to connect")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], Meta(description="how to log in")] = (
        "SCRAM-SHA-512"
    )
    sasl_username: str = ""
    sasl_password: Annotated[str, Meta(extra={"secret": True})] = ""
    ssl_ca_file: Annotated[str, Meta(description="PEM file of the authorities to trust; the system's when empty")] = ""
    session_timeout_s: Annotated[float, Meta(ge=1, le=1800)] = 45.0
    rebalance_timeout_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    poll_interval_max_s: Annotated[float, Meta(ge=1, le=86400)] = 300.0
    fetch_bytes_max: Annotated[int, Meta(ge=1, description="of one answer of one broker")] = 16_777_216
    partition_fetch_bytes_max: Annotated[int, Meta(ge=1, description="of one partition in it")] = 1_048_576
    inflated_bytes_max: Annotated[
        int, Meta(ge=1_000_000, description="of one compressed batch; a partition with a larger one stops")
    ] = 67_108_864
    metadata_age_max_s: Annotated[
        float, Meta(ge=1, le=3600, description="how soon new partitions and topics made anew are seen")
    ] = 30.0
    isolation_level: Literal["read_uncommitted", "read_committed"] = "read_committed"
    record_batches: Annotated[
        bool, Meta(description="read whole record batches, by private parts of the client; false: record by record")
    ] = True

    @property
    def heartbeat_interval_s(self) -> float:
        """How often a member tells its group that it is there."""
        return min(3.0, self.session_timeout_s / 3)

    def __post_init__(self) -> None:
        for server in self.bootstrap_servers:
            if "@" in server:  # what stands before it may be a password
                raise ValueError("bootstrap_servers holds a login: give it as sasl_username and sasl_password")
            found = _SERVER.fullmatch(server)
            if found is None or not 0 < int(found[2]) < 65_536:
                raise ValueError(f"bootstrap_servers: {server!r} is not host:port, as in localhost:9092")
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise ValueError(f"security_protocol = {self.security_protocol} needs sasl_username and sasl_password")


def client_options(options: KafkaOptions) -> dict[str, Any]:
    """The arguments each aiokafka client takes. Raises ConfigError when the authorities' file cannot be read."""
    found: dict[str, Any] = {
        "bootstrap_servers": options.bootstrap_servers,
        "client_id": options.client_id,
        "metadata_max_age_ms": int(options.metadata_age_max_s * 1000),
        "security_protocol": options.security_protocol,
    }
    if options.security_protocol.endswith("SSL"):
        found["ssl_context"] = _ssl_context(options.ssl_ca_file)
    if options.security_protocol.startswith("SASL"):
        found["sasl_mechanism"] = options.sasl_mechanism
        found["sasl_plain_username"] = options.sasl_username
        found["sasl_plain_password"] = options.sasl_password
    return found


class LoginRefused(BrokerError, ConfigError):
    """Kafka does not let this client in, or not do this: the person who configures the login or grants rights must act.

    No repeat helps, so that it counts as a wrong setting wherever a command or a process ends with it.
    """


_REFUSALS = frozenset(
    {
        "AuthenticationFailedError",
        "AuthenticationMethodNotSupported",
        "ClusterAuthorizationFailedError",
        "GroupAuthorizationFailedError",
        "IllegalSaslStateError",
        "SaslAuthenticationFailed",
        "TopicAuthorizationFailedError",
        "UnsupportedSaslMechanismError",
    }
)


def unreachable(options: KafkaOptions, error: Exception) -> BrokerError:
    """Returns what to say when no broker answers, or when one refuses the login."""
    servers, name = ", ".join(options.bootstrap_servers), type(error).__name__
    if name in _REFUSALS:
        user = f"user {options.sasl_username!r}" if options.sasl_username else "this client"
        return LoginRefused(f"Kafka at {servers} refuses {user}: {name}")
    return BrokerError(f"Kafka at {servers} did not answer: {name}")


def _ssl_context(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise ConfigError(f"kafka.ssl_ca_file: cannot read {ca_file!r}: {error.strerror or error}") from None
