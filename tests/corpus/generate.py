"""Writes the checked-in cases: `python -m tests.corpus.generate`. The same files each time."""

import base64
import json
from pathlib import Path

from tests.corpus.parts import Case
from tests.corpus.rows import rows

FOLDER = Path(__file__).parent


def write(folder: Path) -> None:
    """Writes `files/` and `manifest.json` into a folder; files of cases that are gone are removed."""
    files = folder / "files"
    files.mkdir(exist_ok=True)
    found = list(rows())
    for case in found:
        if case.value is not None:
            (files / f"{case.id}.bin").write_bytes(case.value)
    kept = {f"{case.id}.bin" for case in found if case.value is not None}
    for file in files.iterdir():
        if file.name not in kept:
            file.unlink()
    lines = ",\n".join(json.dumps(_entry(case)) for case in found)
    (folder / "manifest.json").write_text(f"[\n{lines}\n]\n", encoding="ascii")


def _entry(case: Case) -> dict[str, object]:
    return {
        "id": case.id,
        "file": None if case.value is None else f"{case.id}.bin",
        "key": _text(case.key),
        "headers": [[name, _text(value)] for name, value in case.headers],
        "expected": case.expected,
        "path": case.path,
        "size": case.size,
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()


if __name__ == "__main__":
    write(FOLDER)
