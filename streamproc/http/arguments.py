"""From a request's parts to the arguments of a handler, or to the answer that says what is wrong. Pure."""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec

from streamproc.http.answer import Problem
from streamproc.http.signature import Parameter, Signature

QUERY_FIELDS_MAX = 100
_PATH_OF_ERROR = re.compile(r" - at `\$[^`]*`$")
_FIRST_FIELD = re.compile(r"`\$\.(\w+)")
_JSON = re.compile(r"application/([\w.+-]+\+)?json", re.IGNORECASE)
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_NUL = "must not hold the character NUL"


class Refusal(Exception):
    """The request cannot be understood; `problem` is its answer."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Arguments:
    """Reads the arguments of one function."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        parameters = (*signature.path.values(), *signature.query.values())
        self._parameters = [(one, one.argument, one.is_text, one.is_time) for one in parameters]
        takes_json = signature.body_name and not signature.takes_bytes
        self._decoder = msgspec.json.Decoder(signature.body_type) if takes_json else None
        self._fields = _fields(signature.body_type)
        self._members = msgspec.json.Decoder(dict[str, msgspec.Raw])

    @property
    def takes_body(self) -> bool:
        """Whether the function has a body parameter."""
        return bool(self._signature.body_name)

    def of_parameters(self, path: Mapping[str, str], query_string: bytes) -> dict[str, Any]:
        """Path and query parameters by name. Raises Refusal. Query parameters nobody asks for are ignored."""
        given = {**_parse_query(query_string, self._signature.query), **path} if query_string else path
        values: dict[str, Any] = {}
        problems: dict[str, str] = {}
        for parameter, argument, is_text, is_time in self._parameters:
            text = given.get(parameter.name)
            if text is None:
                if parameter.required:
                    problems[parameter.name] = "required"
            elif "\0" in text:
                problems[parameter.name] = _NUL
            else:
                as_written = is_text or (is_time and text != "null")
                try:
                    value = values[argument] = msgspec.convert(text, parameter.type, strict=as_written)
                except msgspec.ValidationError as error:
                    problems[parameter.name] = _complaint(parameter.type, error)
                else:
                    if isinstance(value, float) and not math.isfinite(value):
                        problems[parameter.name] = "must be a finite number"
        if problems:
            raise Refusal(Problem(400, "Invalid request", problems))
        return values

    def of_body(self, content_type: str, body: bytes) -> dict[str, Any]:
        """The body parameter. Raises Refusal: 415 for what does not call itself JSON, 400 for what is wrong in it."""
        if self._signature.takes_bytes:
            return {self._signature.body_name: self._of_bytes(body)}
        if self._decoder is None:
            return {}
        if body and not _JSON.fullmatch(content_type.partition(";")[0].strip()):
            raise Refusal(Problem(415, "Content-Type must be application/json"))
        try:
            value = self._decoder.decode(body or b"{}")
        except Exception as error:  # a check of the struct's own may raise anything
            raise Refusal(self._problem(body or b"{}", error)) from None
        if b"\\u0000" in body and _ESCAPED_NUL.search(body):
            raise Refusal(Problem(400, "Invalid request", {"body": _NUL}))
        return {self._signature.body_name: value}

    def _of_bytes(self, body: bytes) -> bytes:
        hint = self._signature.body_type
        try:
            taken: bytes = msgspec.convert(body, hint)
        except msgspec.ValidationError as error:
            raise Refusal(Problem(400, "Invalid request", {"body": _complaint(hint, error)})) from None
        return taken

    def _problem(self, body: bytes, error: Exception) -> Problem:
        if isinstance(error, RecursionError):
            return Problem(400, "Invalid JSON", {"body": "nested too deeply"})
        if _is_malformed(error):
            return Problem(400, "Invalid JSON")
        if self._fields and body.lstrip().startswith(b"{"):
            try:
                members = {name: bytes(raw) for name, raw in self._members.decode(body).items()}
            except Exception:
                return Problem(400, "Invalid JSON")
            required = [name for name, field in self._fields.items() if field.required]
            if any(members.get(name, b"null") in (b"null", b'""') for name in required):
                return Problem(400, _are_required(required))
            problems = self._problems(members)
            if problems:
                return Problem(400, "Invalid request", problems)
        text = str(error) if isinstance(error, msgspec.ValidationError | ValueError) else "not accepted"
        found = _FIRST_FIELD.search(text)
        return Problem(400, "Invalid request", {found[1] if found else "body": _plain(text)})

    def _problems(self, members: Mapping[str, bytes]) -> dict[str, str]:
        problems = {name: "not a known field" for name in members if name not in self._fields}
        for name, field in self._fields.items():
            if name in members:
                try:
                    msgspec.json.decode(members[name], type=field.type)
                except Exception as error:
                    problems[name] = _complaint(field.type, error)
        return dict(list(problems.items())[:QUERY_FIELDS_MAX])


def _fields(hint: Any) -> Mapping[str, msgspec.structs.FieldInfo]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return {field.encode_name: field for field in msgspec.structs.fields(hint)}
    return {}


def _are_required(names: list[str]) -> str:
    """`Email and name required`."""
    text = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"{text[0].upper()}{text[1:]} required"


def _complaint(hint: Any, error: Exception) -> str:
    """What is wrong with a value: what its type is described as, else what the decoder says."""
    metas = (
        [part for part in get_args(hint)[1:] if isinstance(part, msgspec.Meta)] if get_origin(hint) is Annotated else []
    )
    described = next((meta.description for meta in metas if meta.description), None)
    return f"must be {described}" if described else _plain(str(error))


def _plain(text: str) -> str:
    words = _PATH_OF_ERROR.sub("", text)[:200]
    return f"{words[:1].lower()}{words[1:]}"


def _parse_query(query_string: bytes, known: Mapping[str, Parameter]) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            query_string.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=QUERY_FIELDS_MAX,
            errors="strict",
        )
    except ValueError:
        raise Refusal(Problem(400, "Invalid request", {"query": "not a query string of at most 100 fields"})) from None
    given: dict[str, str] = {}
    for name, value in pairs:
        if name in given and name in known:
            raise Refusal(Problem(400, "Invalid request", {name: "given twice"}))
        given[name] = value
    return given


def _is_malformed(error: Exception) -> bool:
    is_about_json = isinstance(error, msgspec.DecodeError | UnicodeDecodeError)
    return is_about_json and not isinstance(error, msgspec.ValidationError)
