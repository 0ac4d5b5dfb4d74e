"""Records of a batch of which the values are known, and the rest is read when somebody asks."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from streamproc.model import Record, Records

T = TypeVar("T")


class Unread(Records):
    """Records of which some columns are read; `read` reads all of them, once somebody asks for more."""

    __slots__ = ("_keys", "_offsets", "_read", "_values")

    def __init__(
        self,
        values: Sequence[bytes | None],
        offsets: Sequence[int],
        keys: Sequence[bytes | None] | None,
        *,
        read: Callable[[], Sequence[Record]],
    ) -> None:
        super().__init__(())
        self._values = values
        self._offsets = offsets
        self._keys = keys
        self._read = read

    @property
    def values(self) -> Sequence[bytes | None]:
        """See `Records`."""
        return self._values

    @property
    def keys(self) -> Sequence[bytes | None]:
        """See `Records`."""
        return [record.key for record in self] if self._keys is None else self._keys

    @property
    def offsets(self) -> Sequence[int]:
        """See `Records`."""
        return self._offsets

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        if not self._records:
            self._records = self._read()
        return self._records[index]


class Joined(Records):
    """The records of several batches. One that is asked for is read with its batch, and not with all."""

    __slots__ = ("_offsets", "_parts", "_values")

    def __init__(self, parts: Sequence[Records]) -> None:
        super().__init__(())
        self._parts = parts
        self._values = _concatenated([part.values for part in parts])
        self._offsets = _offsets(parts)

    @property
    def values(self) -> Sequence[bytes | None]:
        """See `Records`."""
        return self._values

    @property
    def keys(self) -> Sequence[bytes | None]:
        """See `Records`."""
        return _concatenated([part.keys for part in self._parts])

    @property
    def offsets(self) -> Sequence[int]:
        """See `Records`."""
        return self._offsets

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Record]:
        return chain.from_iterable(self._parts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        left = range(len(self))[index]
        for part in self._parts:
            if left < len(part):
                return part[left]
            left -= len(part)
        raise IndexError(index)


def _offsets(parts: Sequence[Records]) -> Sequence[int]:
    columns = [part.offsets for part in parts if part]
    first, last = (columns[0][0], columns[-1][-1]) if columns else (0, -1)
    if last - first + 1 == sum(map(len, columns)):
        return range(first, last + 1)
    return _concatenated(columns)


def _concatenated(parts: Sequence[Sequence[T]]) -> list[T]:
    whole: list[T] = []
    for part in parts:
        whole += part
    return whole
