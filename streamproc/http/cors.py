"""Which pages of other origins may call a function (WHATWG Fetch, "CORS protocol"). Pure."""

from collections.abc import Mapping

from streamproc.app import Http

PREFLIGHT_AGE_S = 600
_REQUEST_HEADERS = "authorization, content-type, idempotency-key, traceparent, x-request-id"
_ANSWER_HEADERS = "location, retry-after, x-request-id"


def answer_headers(function: Http, origin: str) -> Mapping[str, str]:
    """What an answer to a page of this origin carries; nothing but `Vary` when the origin may not call."""
    if not function.cors:
        return {}
    if "*" in function.cors:
        return {"access-control-allow-origin": "*", "access-control-expose-headers": _ANSWER_HEADERS}
    if origin not in function.cors:
        return {"vary": "Origin"}
    return {"access-control-allow-origin": origin, "access-control-expose-headers": _ANSWER_HEADERS, "vary": "Origin"}


def preflight_headers(function: Http, origin: str) -> Mapping[str, str]:
    """The answer to a preflight; without `access-control-allow-origin` the browser does not call."""
    headers = dict(answer_headers(function, origin))
    if "access-control-allow-origin" in headers:
        del headers["access-control-expose-headers"]
        headers["access-control-allow-methods"] = function.method
        headers["access-control-allow-headers"] = _REQUEST_HEADERS
        headers["access-control-max-age"] = str(PREFLIGHT_AGE_S)
    return headers
