"""The functions of the simulated application: how they fare with a record is written in its temper."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamproc import Failures, Reject, RetryLater, Stream
from streamproc.context import Item
from streamproc.model import TopicPartition
from tests.simulation.facts import Call
from tests.simulation.scenario import OUT, Bulk, Free, Line, Pair, Scenario, Sent, Step

if TYPE_CHECKING:
    from tests.simulation.member import Member

TIMEOUT_S = 0.5
HANG_S = 1_000.0


async def keyed(event: Step, ctx: Any) -> object:
    """One event a call, in the order of the record's key."""
    return await _one("keyed", ctx)


async def pair_one(event: Pair, ctx: Any) -> object:
    """One event a call, in the order of a field; `pair_bulk` takes the same events."""
    return await _one("pair_one", ctx)


async def free(event: Free, ctx: Any) -> object:
    """One event a call, in no order."""
    return await _one("free", ctx)


async def line(event: Line, ctx: Any) -> object:
    """One event a call, in the order of the partition."""
    return await _one("line", ctx)


async def bulk(events: Sequence[Bulk], ctx: Any) -> object:
    """Batches, in the order of the record's key."""
    return await _many("bulk", ctx)


async def pair_bulk(events: Sequence[Pair], ctx: Any) -> object:
    """Batches, in the order of a field; `pair_one` takes the same events."""
    return await _many("pair_bulk", ctx)


def functions(scenario: Scenario) -> list[Stream]:
    """The application of a scenario."""
    every: dict[str, Any] = {
        "concurrency": scenario.concurrency,
        "timeout_s": TIMEOUT_S,
        "max_retry_attempts": scenario.retries,
        "backoff_s": 0.02,
        "backoff_max_s": 0.4,
    }
    batches: dict[str, Any] = {"batch_size": scenario.batch_size, "batch_window_s": scenario.batch_window_s}
    return [
        Stream(Step, keyed, **every),
        Stream(Pair, pair_one, key="who", **every),
        Stream(Pair, pair_bulk, key="who", **every, **batches),
        Stream(Bulk, bulk, **every, **batches),
        Stream(Free, free, order="unordered", **every),
        Stream(Line, line, order="partition", **every),
    ]


async def _one(function: str, ctx: Any) -> object:
    outcome = (await _perform(function, [ctx], ctx))[0]
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def _many(function: str, ctx: Any) -> object:
    outcomes = await _perform(function, ctx.records, ctx)
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    if len(errors) == len(outcomes):
        raise errors[0]
    failures = {index: outcome for index, outcome in enumerate(outcomes) if outcome is not None}
    return Failures(failures) if failures else None


async def _perform(function: str, items: Sequence[Item], ctx: Any) -> list[Any]:
    """Spends the time, tells the judges, and returns how each record ends: None, an outcome or an error."""
    member: Member = ctx.services
    calls = member.world.calls
    places = [(TopicPartition(item.topic, item.partition), item.offset, item.attempt) for item in items]
    call = calls.began(member, function, places)
    try:
        await _spend(member, call)
    except asyncio.CancelledError:
        if not member.over:
            calls.ended(call, ["failed"] * len(items))
        if any(seen.made.temper == "rude" for _, seen, _ in call.items):
            return [None] * len(items)
        raise
    outcomes = _outcomes(call)
    emits = not all(outcomes) and any(seen.made.temper == "emits" for _, seen, _ in call.items)
    if emits:
        ctx.emit(Sent(call.number), topic=OUT)
    if not member.over:
        calls.ended(call, [_verdict(outcome) for outcome in outcomes], emits=emits)
    return outcomes


async def _spend(member: "Member", call: Call) -> None:
    world = member.world
    for _, seen, attempt in call.items:
        if seen.made.temper in ("hangs", "rude") and attempt == 1 and world.faulty:
            await asyncio.sleep(HANG_S)
    if any(seen.made.temper == "slow" for _, seen, _ in call.items):
        await asyncio.sleep(world.rng.uniform(0, 3 * world.scenario.slow_s))
    elif world.scenario.slow_s and world.rng.random() < 0.5:
        await asyncio.sleep(world.rng.uniform(0, world.scenario.slow_s))


def _outcomes(call: Call) -> list[Any]:
    outcomes = [_outcome(seen.made.temper, attempt) for _, seen, attempt in call.items]
    whole = any(isinstance(outcome, ValueError) for outcome in outcomes) and call.number % 2
    return [ValueError("all of it")] * len(outcomes) if whole else outcomes


def _outcome(temper: str, attempt: int) -> Any:
    if temper == "bad" or (temper == "flaky" and attempt <= 2):
        return ValueError(temper)
    if temper == "rejected":
        return Reject("bad", "it can never be done")
    if temper == "later" and attempt == 1:
        return RetryLater(0.5, "not yet")
    return None


def _verdict(outcome: object) -> str:
    if outcome is None:
        return "ok"
    return "rejected" if isinstance(outcome, Reject) else "failed"
