"""Where files are: B31, a key leads nowhere but below its own prefix, whatever it holds."""

import re
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.filekeys import OBJECT_KEY_BYTES_MAX, PATTERN, RESIZED, RULE, UPLOADS, original, resized
from handlers.stores.processed import Refused
from streamproc.adapters.objects import check_key

BOTH = pytest.mark.parametrize(("of", "prefix"), [(original, UPLOADS), (resized, RESIZED)])
PIECES = st.lists(st.sampled_from(["/", ".", "..", "\\", "a", "%2e", "%00", "\0", "\n", "\x7f", "\x85", "é", "\u2028"]))
HOSTILE = ["../x", "..", "/etc/passwd", "a/../../b", "a//b", "./a", "a\\..\\b", "a\0b", "uploads/../../x", "\ud800"]
Of = Callable[[str], str]


@BOTH
@pytest.mark.parametrize(
    "key",
    ["a", "a.jpg", "2026/01/cat.jpg", "...", "..a", ".a", "a..", "a/.b/..c/...", " ", "%2e%2e/%00", "é/☃", "~", "C:",
     "uploads/a", "\u202egpj", "a" * 1_016],
)  # fmt: skip
def test_a_key_is_an_object_below_the_prefix(of: Of, prefix: str, key: str) -> None:
    assert of(key) == prefix + key


@BOTH
@pytest.mark.parametrize(
    "key",
    [*HOSTILE, "", ".", "/", "//", "/a", "a/", "a/.", "a/..", "a/../b", "../", "\\", "a\\b", "\0", "a\n", "\r", "a\tb",
     "a\x1f", "a\x7fb", "a\x85b", "\udfff", "a\ud800b", "a" * 1_017, "é" * 509, "a/" * 508],
)  # fmt: skip
def test_other_keys_are_refused_with_the_rule(of: Of, prefix: str, key: str) -> None:
    with pytest.raises(Refused) as caught:
        of(key)
    assert (caught.value.outcome.reason, caught.value.outcome.detail) == ("key", RULE)


@BOTH
@given(key=st.one_of(st.text(), st.text(st.characters()), PIECES.map("".join)))
@example(key="a\ud800")
@example(key="../../a")
def test_no_key_leaves_its_prefix(of: Of, prefix: str, key: str) -> None:
    try:
        name = of(key)
    except Refused:
        segments = key.split("/")
        is_bad = any(segment in ("", ".", "..") for segment in segments) or "\\" in key
        kinds = {unicodedata.category(letter) for letter in key}
        assert is_bad or kinds & {"Cc", "Cs"} or len(key.encode()) > OBJECT_KEY_BYTES_MAX - len(prefix)
        return
    check_key(name)
    assert name.startswith(prefix)
    assert name.removeprefix(prefix) == key
    depth = 0
    for segment in key.split("/"):
        depth += -1 if segment == ".." else segment not in ("", ".")
        assert depth > 0
    assert len(name.encode()) <= OBJECT_KEY_BYTES_MAX


def test_the_pattern_is_the_same_rule_for_callers_of_the_api() -> None:
    for key in HOSTILE[:-1]:
        assert not re.search(PATTERN, key)
    assert re.search(PATTERN, "a/b.jpg")
