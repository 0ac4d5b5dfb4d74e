"""Records that hold a word which must be seen nowhere but in their dead letters."""

import json

from tests.corpus.parts import ORDER, SENSOR, USER, around, encoded, envelope, named, sensor

CANARY = "canary-5f1c"


def bodies() -> list[bytes]:
    """The word in every place of a record's value there is, also where the record is good."""
    text = json.dumps(CANARY)
    events = [
        USER.replace('"u-1"', text),
        ORDER.replace('"sku-1"', text),
        ORDER.replace('"quantity":1', f'"quantity":{text}'),
        sensor("timestamp", text),
        sensor("temperature", text),
        SENSOR[:-1] + f",{text}:{text}}}",
        USER.replace("user.created", CANARY),
        USER.replace("u-1", f"{CANARY}\\u0000"),
        USER.replace("u-1", f"it's {CANARY}"),
        CANARY + USER,
        USER + CANARY,
        f"[{text}]",
        text,
    ]
    data = json.dumps(encoded(USER) + CANARY)
    outside = [CANARY.encode(), around("x", data), around("x", f"{{{text}:1}}"), named(text), named(f"[{text}]")]
    return [*(envelope(CANARY, event) for event in events), *outside]
