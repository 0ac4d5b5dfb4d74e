"""Where the operations endpoint listens: section `[ops]` of the settings."""

from typing import Annotated

import msgspec
from msgspec import Meta


class OpsOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Section `[ops]`: metrics and probes over HTTP."""

    listen: Annotated[
        str, Meta(description="host:port of metrics and probes; port 0 takes a free one, empty is off")
    ] = "127.0.0.1:9464"
