"""Finds out why Kafka cannot be reached: the client itself says of every failure that it cannot connect."""

import asyncio
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError

from streamproc.adapters.kafka_client import KafkaOptions, LoginRefused, client_options, unreachable
from streamproc.errors import BrokerError

_CONNECTION = ("client_id", "security_protocol", "ssl_", "sasl_")
"""What the names of those options begin with that a connection takes."""


async def reach(options: KafkaOptions, *, within_s: float) -> None:
    """Connects to one of the servers, logs in and hangs up.

    Raises LoginRefused where one does not let this client in, else BrokerError when none answers in time.
    """
    servers = collect_hosts(options.bootstrap_servers)
    chosen: dict[str, Any] = {
        name: value for name, value in client_options(options).items() if name.startswith(_CONNECTION)
    }
    problem = BrokerError("kafka.bootstrap_servers is empty")
    for host, port, _ in servers:
        try:
            async with asyncio.timeout(within_s):
                connection = await create_conn(host, port, **chosen)
        except (OSError, KafkaError) as error:  # a TimeoutError is an OSError
            found = unreachable(options, error)
            if isinstance(found, LoginRefused):
                raise found from None
            problem = found
        else:
            connection.close()
            return
    raise problem
