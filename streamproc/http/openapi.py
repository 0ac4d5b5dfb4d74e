"""The HTTP functions of an app as an OpenAPI 3.1 document, made of the handlers' own types. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from streamproc.app import App, Http
from streamproc.errors import ConfigError
from streamproc.http.answer import Accepted, Content, Created, NoContent, Problem
from streamproc.http.signature import Parameter, Signature, signature

REFERENCE = "#/components/schemas/{name}"
PROBLEM = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string"},
        "fields": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
BINARY = {"type": "string", "format": "binary"}
_STATUSES = {Created: 201, Accepted: 202, NoContent: 204, NoneType: 204}


def document(app: App, *, title: str, version: str) -> dict[str, Any]:
    """The document. Raises ConfigError for a function whose types cannot be described."""
    functions = [(function, signature(function)) for function in app.http_functions]
    types = {repr(hint): hint for _, one in functions for hint in _types(one)}
    try:
        described, components = msgspec.json.schema_components(types.values(), ref_template=REFERENCE)
    except TypeError as error:
        raise ConfigError(f"of an HTTP function, {str(error).splitlines()[-1]}") from None
    schemas = dict(zip(types, described, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for function, one in functions:
        path = function.path.replace(":path}", "}")
        paths.setdefault(path, {})[function.method.lower()] = _operation(function, one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": {**components, "Problem": PROBLEM},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _types(of: Signature) -> Iterator[Any]:
    yield from (parameter.type for parameter in (*of.path.values(), *of.query.values()))
    if of.body_name and not of.takes_bytes:
        yield of.body_type
    yield from (hint for _, hint in _answers(of.answer) if hint not in (None, Content))


def _answers(hint: Any) -> Iterator[tuple[int, Any]]:
    """(status, type of the body or None) of what a handler says it returns."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        for part in get_args(hint):
            yield from _answers(part)
    elif (status := _STATUSES.get(origin or hint)) is not None:
        yield status, next(iter(get_args(hint)), None)
    elif hint is not Problem:
        yield 200, hint


def _operation(function: Http, of: Signature, schemas: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": function.name,
        "summary": (function.handler.__doc__ or function.name).strip().splitlines()[0],
        "parameters": [_parameter(one, "path", schemas) for one in of.path.values()]
        + [_parameter(one, "query", schemas) for one in of.query.values()],
        "responses": {str(status): _response(status, hint, schemas) for status, hint in _answers(of.answer)},
    }
    if of.takes_bytes:
        operation["requestBody"] = _bytes_body(of.body_type)
    elif of.body_name:
        content = {"application/json": {"schema": schemas[repr(of.body_type)]}}
        operation["requestBody"] = {"required": True, "content": content}
    for status, description in _errors(function, of):
        operation["responses"].setdefault(str(status), _problem(description))
    operation["responses"]["default"] = _problem("Error")
    operation["security"] = [] if function.public else [{"bearer": [function.scope] if function.scope else []}]
    return operation


def _bytes_body(hint: Any) -> dict[str, Any]:
    metas = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    limits = {"minLength": "min_length", "maxLength": "max_length"}
    given = {name: getattr(meta, of) for meta in metas for name, of in limits.items() if getattr(meta, of, None)}
    return {"required": "minLength" in given, "content": {"application/octet-stream": {"schema": {**BINARY, **given}}}}


def _parameter(one: Parameter, place: str, schemas: Mapping[str, Any]) -> dict[str, Any]:
    schema = dict(schemas[repr(one.type)])
    if not one.required:
        schema["default"] = msgspec.to_builtins(one.default)
    return {"name": one.name, "in": place, "required": one.required, "schema": schema}


def _response(status: int, hint: Any, schemas: Mapping[str, Any]) -> dict[str, Any]:
    if hint is None:
        return {"description": "Done"}
    if hint is Content:
        return {"description": "OK", "content": {"*/*": {"schema": BINARY}}}
    response: dict[str, Any] = {
        "description": {201: "Created", 202: "Accepted"}.get(status, "OK"),
        "content": {"application/json": {"schema": schemas[repr(hint)]}},
    }
    if status == 201:
        response["headers"] = {"Location": {"required": True, "schema": {"type": "string"}}}
    return response


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": REFERENCE.format(name="Problem")}
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _errors(function: Http, of: Signature) -> Sequence[tuple[int, str]]:
    errors: list[tuple[int, str]] = []
    if of.path or of.query or of.body_name:
        errors.append((400, "The request is not as described"))
    if not function.public:
        errors += [(401, "No token, or an invalid one"), (403, "The token does not allow this")]
    if of.path:
        errors.append((404, "Not found"))
    if of.body_name:
        errors.append((413, "The body is too large"))
    if of.body_name and not of.takes_bytes:
        errors.append((415, "The body is not JSON"))
    if function.rate_per_s:
        errors.append((429, "Too many requests"))
    return errors
