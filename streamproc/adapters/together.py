"""Calls of many callers, carried out in few statements.

A round trip to a database costs about the same for one row as for fifty. A call that finds nobody under way starts at
once; those that come while others are under way wait, and are carried out together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

AT_ONCE = 2
"""Statements under way: while one is at the server, the next is put together."""


class Together(Generic[Q, A]):
    """Questions to `work`, which takes up to `size_max` of them and returns as many answers, in their order.

    What `work` raises is raised to each caller whose question was among them. For one event loop.
    """

    def __init__(self, work: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, size_max: int = 100) -> None:
        self._work = work
        self._size_max = size_max
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._running: set[asyncio.Task[None]] = set()

    async def ask(self, question: Q) -> A:
        """The answer to one question."""
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, answer))
        self._start()
        return await answer

    def _start(self) -> None:
        if self._waiting and len(self._running) < AT_ONCE:
            task = asyncio.create_task(self._carry_out())
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._start()

    async def _carry_out(self) -> None:
        now, self._waiting = self._waiting[: self._size_max], self._waiting[self._size_max :]
        asked = [(question, answer) for question, answer in now if not answer.done()]
        if not asked:
            return
        try:
            answers = await self._work([question for question, _ in asked])
        except BaseException as error:
            for _, waiting in asked:
                if not waiting.done():
                    waiting.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, waiting), found in zip(asked, answers, strict=True):
            if not waiting.done():
                waiting.set_result(found)
