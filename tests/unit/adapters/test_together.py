"""Calls of many callers, carried out in few."""

import asyncio
from collections.abc import Sequence

import pytest

from streamproc.adapters.together import AT_ONCE, Together


class Doubling:
    """Answers with the double, when it is let go."""

    def __init__(self, *, is_open: bool = True, bad: int = -1) -> None:
        self.bad = bad
        self.asked: list[list[int]] = []
        self.gate = asyncio.Event()
        self.running = self.most = 0
        if is_open:
            self.gate.set()

    async def __call__(self, questions: Sequence[int]) -> Sequence[int]:
        self.asked.append(list(questions))
        self.running += 1
        self.most = max(self.most, self.running)
        await self.gate.wait()
        self.running -= 1
        if self.bad in questions:
            raise OSError("thirteen")
        return [2 * one for one in questions]


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_single_call_is_carried_out_at_once() -> None:
    work = Doubling()
    together = Together(work)
    assert [await together.ask(n) for n in (1, 2)] == [2, 4]
    assert work.asked == [[1], [2]]


async def test_calls_of_the_same_moment_are_one() -> None:
    work = Doubling()
    together = Together(work)
    assert await asyncio.gather(*map(together.ask, range(50))) == [2 * n for n in range(50)]
    assert work.asked == [list(range(50))]


async def test_those_that_come_meanwhile_wait_and_are_one() -> None:
    work = Doubling(is_open=False)
    together = Together(work)
    calls = []
    for n in range(10):
        calls.append(asyncio.create_task(together.ask(n)))
        await settle()
    assert work.asked == [[n] for n in range(AT_ONCE)]
    work.gate.set()
    assert await asyncio.gather(*calls) == [2 * n for n in range(10)]
    assert work.asked[AT_ONCE:] == [list(range(AT_ONCE, 10))]
    assert work.most == AT_ONCE


async def test_more_than_fit_are_several() -> None:
    work = Doubling()
    together = Together(work, size_max=4)
    assert await asyncio.gather(*map(together.ask, range(10))) == [2 * n for n in range(10)]
    assert work.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


async def test_an_error_is_raised_to_those_who_asked_together_and_to_nobody_else() -> None:
    together = Together(Doubling(bad=13), size_max=2)
    answers = await asyncio.gather(*map(together.ask, (12, 13, 14, 15)), return_exceptions=True)
    assert [str(answer) for answer in answers] == ["thirteen", "thirteen", "28", "30"]
    assert await together.ask(1) == 2


async def test_who_gave_up_is_not_asked_for_and_hurts_nobody() -> None:
    work = Doubling(is_open=False)
    together = Together(work)
    calls = [asyncio.create_task(together.ask(n)) for n in range(3)]
    await settle()
    late = [asyncio.create_task(together.ask(n)) for n in (7, 8)]
    single = [asyncio.create_task(together.ask(9))]
    await settle()
    for call in (calls[1], late[0]):
        call.cancel()
    work.gate.set()
    done = await asyncio.gather(*calls, *late, *single, return_exceptions=True)
    assert [one for one in done if not isinstance(one, BaseException)] == [0, 4, 16, 18]
    assert await together.ask(5) == 10


async def test_all_gave_up_before_it_began() -> None:
    work = Doubling()
    call = asyncio.create_task(Together(work).ask(1))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await settle()
    assert work.asked in ([], [[1]])
