"""For schemathesis: writes whole numbers as such. JSON Schema calls 2.0 an integer, the decoder does not."""

from typing import Any

import schemathesis


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@schemathesis.hook
def map_body(context: object, body: Any) -> Any:
    return _whole(body)
