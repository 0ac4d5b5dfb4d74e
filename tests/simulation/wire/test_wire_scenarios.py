"""Faults that other systems are known for, each played on its own: script, cluster, real pipelines, and the oracle.

The oracle judges each to the end, as it does the seeds: nothing lost, no key out of order, all of it committed. At the
end of this file stand the broken builds that have these faults, and each is caught.
"""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec
import pytest

from streamproc.core.engine import STOPPED_AGAIN_S
from tests.simulation.wire import mutants_scripted as broken
from tests.simulation.wire.faults import Trouble
from tests.simulation.wire.groups import State
from tests.simulation.wire.mutants import MUTANTS, Install
from tests.simulation.wire.oracle import DEAD, GROUP, TOPIC
from tests.simulation.wire.play import SESSION_S, World
from tests.simulation.wire.protocol import Api, Code
from tests.simulation.wire.scripted import (
    Script,
    answers,
    blocked,
    committed,
    lasting,
    reads,
    rest,
    scenario,
    write,
)

Changes = Mapping[str, Any]


@pytest.fixture(params=[True, False], ids=["batches", "records"])
def record_batches(request: pytest.FixtureRequest) -> bool:
    """Both ways of reading."""
    return bool(request.param)


# 5: the epoch ends before the drain


async def passes_a_partition_on(world: World) -> None:
    world.join()
    await world.until(lambda: reads(world) == 2)
    for partition in (0, 1):
        await write(world, *["slow"] * 30, partition=partition, keys=range(30))
    world.join()
    for _ in range(15):
        for partition in (0, 1):
            await write(world, "good", "slow", partition=partition, keys=(1, 2))
        await asyncio.sleep(0.4)
    assert reads(world) == reads(world, 1) == 1
    await world.members[0].leave()


PASSED_ON: Changes = {"theme": "calm", "partitions": 2, "commit_interval_s": 2.0}


def test_what_runs_is_finished_and_committed_before_its_partition_goes(record_batches: bool) -> None:
    """Nothing is handled twice when all calls end in time: intake ends first, then the calls, then the ownership."""
    oracle = scenario(passes_a_partition_on, record_batches=record_batches, **PASSED_ON)
    assert oracle.all_drained
    assert oracle.counts["rebalances"] == 2
    assert oracle.counts["repeated"] == 0


# 6 and 7: a partition comes back to a process that still has calls of it


async def comes_back(world: World, kind: str) -> None:
    world.join()
    await world.until(lambda: reads(world) == 8)
    world.cluster.grow_topic(TOPIC, 9)
    number = 0
    while not world.oracle.counts["rebalances"]:  # when it begins, some calls have more left than a drain lasts
        await write(world, "stuck", "good", partition=number % 8, keys=(number, number), kind=kind)
        await asyncio.sleep(0.25)
        number += 1
    assert not world.oracle.all_drained
    await rest(world)


@pytest.mark.parametrize("kind", ["step", "bulk"])
def test_a_call_that_outlives_its_epoch_keeps_no_offset_and_is_waited_for(kind: str, record_batches: bool) -> None:
    """Its record is delivered again and committed without a restart, but its key is never in two calls at once."""
    oracle = scenario(partial(comes_back, kind=kind), partitions=8, record_batches=record_batches)
    assert oracle.counts["repeated"] > 0
    assert oracle.counts["restarts"] == 0


# 8: what was fetched for an earlier assignment


async def is_assigned_anew(world: World) -> None:
    lasting(world)[Api.OFFSET_FETCH, ""] = Trouble(before_s=0.02)
    world.join()
    await world.until(lambda: reads(world) == 2)
    for turn in range(250):
        if turn % 100 == 10:
            world.join()
        elif turn % 100 == 60:
            await world.members[-1].leave()
        for partition in (0, 1):
            await write(world, *["good"] * (10 if turn % 20 == 0 else 1), partition=partition)
        await asyncio.sleep(0.04)
    await rest(world)


ANEW: Changes = {"theme": "calm", "partitions": 2, "partition_records_max": 5}


def test_what_was_fetched_for_an_earlier_assignment_is_read_again(record_batches: bool) -> None:
    """No offset is left out and none comes twice, also of partitions that were held back when they went."""
    oracle = scenario(is_assigned_anew, record_batches=record_batches, **ANEW)
    assert oracle.counts["rewinds"] >= oracle.counts["rebalances"] > 4
    assert oracle.counts["repeated"] == oracle.counts["restarts"] == 0


# 9: a commit that comes too late


async def commits_after_its_session(world: World) -> None:
    for _ in range(2):
        world.join()
    await world.until(lambda: reads(world) == reads(world, 1) == 1)
    sent = len(answers(world, Api.OFFSET_COMMIT))
    world.cluster.faults.once(Api.OFFSET_COMMIT, Trouble(before_s=SESSION_S + 20), client="m1")
    for partition in (0, 1):
        await write(world, *["good"] * 10, *["slow"] * 25, partition=partition)  # longer than a session
    await world.until(lambda: committed(world) == committed(world, 1) == 35)
    assert world.oracle.counts["evicted"] == 1
    assert len(answers(world, Api.OFFSET_COMMIT)) == sent, "it is still on its way"
    await world.until(lambda: len(answers(world, Api.OFFSET_COMMIT)) > sent)
    assert "UNKNOWN_MEMBER_ID" in answers(world, Api.OFFSET_COMMIT)[sent]
    await world.until(lambda: reads(world) == reads(world, 1) == 1)


def test_a_commit_that_comes_after_the_session_is_refused(record_batches: bool) -> None:
    """Another member has gone on; who sent it begins nothing meanwhile, joins again, and goes on."""
    oracle = scenario(commits_after_its_session, partitions=2, record_batches=record_batches)
    assert oracle.counts["restarts"] == 0


async def commits_again_and_again(world: World) -> None:
    world.join()
    await world.until(lambda: reads(world) == 1)
    lasting(world)[Api.OFFSET_COMMIT, "m1"] = Trouble(error=Code.COORDINATOR_LOAD_IN_PROGRESS)
    await write(world, *["good"] * 10)
    world.join()
    await world.until(lambda: reads(world, 1) == 1)
    assert committed(world) == 0
    await write(world, *["good"] * 10)
    await world.until(lambda: committed(world) == 20)
    await world.members[1].leave()
    await world.until(lambda: reads(world) == 1)
    lasting(world).clear()
    await asyncio.sleep(1.0)
    assert committed(world) == 20


def test_a_commit_does_not_outlive_its_epoch() -> None:
    """It is given up with its partition, instead of being repeated until it counts for another generation."""
    scenario(commits_again_and_again)


# 14: dead letters that are refused

NOWHERE: Mapping[str, tuple[Callable[[World], Any], Callable[[World], Any]]] = {
    "denied": (lambda world: world.cluster.deny(DEAD, "write"), lambda world: world.cluster.deny(DEAD)),
    "gone": (lambda world: world.cluster.delete_topic(DEAD), lambda world: world.cluster.create_topic(DEAD, 2)),
    "too large": (
        lambda world: setattr(world.cluster.topics[DEAD].config, "record_bytes_max", 10),
        lambda world: setattr(world.cluster.topics[DEAD].config, "record_bytes_max", 10**6),
    ),
}
"""How it comes that no dead letter is taken, and how that ends."""


async def has_nowhere_to_put_letters(world: World, how: str) -> None:
    NOWHERE[how][0](world)
    world.join()
    await write(world, "good", "reject", "good", "reject")
    await write(world, "good", partition=1)
    await world.until(lambda: blocked(world)[0] == "dead_letters_refused")
    assert DEAD in blocked(world)[1]
    for partition in (0, 1):
        await write(world, "good", partition=partition)
    await asyncio.sleep(30.0)
    assert blocked(world)[0] == "dead_letters_refused"
    assert (committed(world), committed(world, 1)) == (1, 2)
    NOWHERE[how][1](world)
    await rest(world)
    assert world.oracle.counts["letters"] == 2


@pytest.mark.parametrize("how", NOWHERE)
def test_a_partition_waits_for_its_dead_letters_and_says_so(how: str) -> None:
    """Nothing is dropped or passed over; others go on; and what waits goes on by itself when the topic takes them."""
    oracle = scenario(partial(has_nowhere_to_put_letters, how=how), partitions=2)
    assert oracle.counts["repeated"] == oracle.counts["restarts"] == 0


# 17: a call that is longer than the group waits


async def calls_for_long(world: World) -> None:
    world.options = msgspec.structs.replace(world.options, poll_interval_max_s=2.0)
    world.join()
    await write(world, *["stuck"] * 5, *["good"] * 10)
    await world.until(lambda: blocked(world)[0] == "records")
    await rest(world)
    assert world.cluster.group(GROUP).generation == 1


def test_a_call_longer_than_the_poll_interval_does_not_cost_the_membership(record_batches: bool) -> None:
    """Calls may take as long as they may: who waits for them, with nothing to read, is a member all the same."""
    oracle = scenario(calls_for_long, partition_records_max=3, record_batches=record_batches)
    assert oracle.counts["assignments"] == 1
    assert oracle.counts["repeated"] == 0


async def calls_for_longer_than_a_rebalance(world: World) -> None:
    world.options = msgspec.structs.replace(world.options, rebalance_timeout_s=3.9)
    world.stream = msgspec.structs.replace(world.stream, drain_s=1.0)
    world.join()
    await world.until(lambda: reads(world) == 1)
    name, group = world.members[0].group_member_id, world.cluster.group(GROUP)
    await write(world, "stuck")
    world.join()
    await world.until(lambda: group.generation == 2 and reads(world) + reads(world, 1) == 1)
    assert name in group.members
    assert len(group.members) == 2


def test_a_call_longer_than_a_rebalance_does_not_cost_the_membership() -> None:
    """Its record may come again; but nobody is thrown out."""
    scenario(calls_for_longer_than_a_rebalance)


# 19: the coordinator moves


async def loses_its_coordinator(world: World, *, stops: bool) -> None:
    for _ in range(3):
        world.join()
    await world.until(lambda: all(reads(world, member) == 2 for member in range(3)))
    old, generation = world.cluster.coordinator(GROUP), world.cluster.group(GROUP).generation
    for partition in range(6):
        await write(world, "good", "slow", "good", partition=partition)
    if stops:
        world.cluster.stop_node(old)
    world.cluster.move_coordinator(GROUP, 1 + old % 3, load_s=8.0)
    await rest(world)
    assert world.cluster.coordinator(GROUP) != old
    assert world.cluster.group(GROUP).generation == generation


MOVED: Changes = {"theme": "calm", "nodes": 3, "partitions": 6}


@pytest.mark.parametrize("stops", [True, False])
def test_every_member_finds_a_coordinator_that_moved(stops: bool, record_batches: bool) -> None:
    """All of them commit again, at the new one; nobody restarts, and nothing is handled twice."""
    oracle = scenario(partial(loses_its_coordinator, stops=stops), record_batches=record_batches, **MOVED)
    assert oracle.counts["restarts"] == oracle.counts["repeated"] == 0


# 20: an outage

OUTAGES: Mapping[str, float] = {"stopped": 20.0, "silent": 60.0, "leaderless": 20.0, "opening": 20.0}
"""What happens to the one node, or to partition 1, and for how many seconds."""


async def is_cut_off(world: World, how: str) -> None:
    world.join()
    for partition in (0, 1):
        await write(world, *["good"] * 10, partition=partition)
    await rest(world)
    if how == "opening":
        lasting(world)[Api.OFFSET_FETCH, ""] = Trouble(before_s=5.0)
        world.join()
        await world.until(lambda: world.oracle.counts["rebalances"])
        await asyncio.sleep(1.0)
        lasting(world).clear()
    if how == "silent":
        world.cluster.network.silence(node="kafka-1", for_s=OUTAGES[how])
    elif how == "leaderless":
        world.cluster.move_leader((TOPIC, 1), -1)
    else:
        world.cluster.stop_node(1)
    for partition in (0, 1):
        await asyncio.sleep(1.0)
        await write(world, *["good"] * 10, partition=partition)
    await asyncio.sleep(OUTAGES[how] - 2.1)
    assert (committed(world), committed(world, 1)) == (20 if how == "leaderless" else 10, 10)
    pipelines = [member.pipeline for member in world.members if member.pipeline is not None]
    assert all(one.silent_s() > OUTAGES[how] - 1 for one in pipelines) is (how != "leaderless")
    assert all("where to read from" in one.trouble() for one in pipelines) is (how == "opening")
    if how == "leaderless":
        world.cluster.move_leader((TOPIC, 1), 1)
    elif how != "silent":
        world.cluster.start_node(1)
    await rest(world)
    assert all(one.silent_s() < 1.0 and not one.trouble() for one in pipelines)


@pytest.mark.parametrize("how", OUTAGES)
def test_what_was_written_in_an_outage_is_read_after_it(how: str, record_batches: bool) -> None:
    """By the processes that were there, without a hand; while it lasts they say that nobody answers."""
    oracle = scenario(partial(is_cut_off, how=how), partitions=2, record_batches=record_batches)
    assert oracle.counts["restarts"] == 0


# a task of the client ends, of which it tells nobody


TASKS = ("_client._sync_task", "_fetcher._fetch_task")


async def loses_a_task(world: World, task: str) -> None:
    world.join()
    await write(world, *["good"] * 10)
    await rest(world)
    consumer = world.members[0]._consumer
    assert consumer is not None
    attrgetter(task)(consumer._client).cancel()
    await asyncio.sleep(5.0)
    assert world.oracle.counts["restarts"] == 1, "it goes on without the task"
    await write(world, *["good"] * 10)
    await rest(world)


@pytest.mark.parametrize("task", TASKS)
def test_a_client_that_lost_a_task_is_replaced(task: str) -> None:
    """Whatever ended it: nothing would be read any more, and nobody told."""
    scenario(partial(loses_a_task, task=task))


# a member that is told to end while it waits in a join


async def leaves_a_join(world: World, *, has_joined: bool) -> None:
    """One member is at work and holds the rebalance up; another leaves: the one that comes, or one that was there."""
    world.join()
    await world.until(lambda: reads(world) == 2)
    if has_joined:
        world.join()
        await world.until(lambda: reads(world) == reads(world, 1) == 1)
    world.join()
    await world.until(lambda: world.cluster.group(GROUP).state is State.PREPARING)
    await write(world, "stuck", partition=0)
    await asyncio.sleep(2.5 if has_joined else 1.0)
    leaving = next(member for number, member in enumerate(world.members) if not reads(world, number))
    assert (leaving is world.members[-1]) is not has_joined
    began = world.cluster.now()
    await leaving.leave()
    await world.until(leaving.task.done)
    assert world.cluster.now() - began < 1.0
    assert len(world.cluster.groups[GROUP].members) == len(world.members) - 1
    await rest(world)


@pytest.mark.parametrize("has_joined", [False, True], ids=["first", "again"])
def test_a_member_that_waits_in_a_join_leaves_at_once(has_joined: bool) -> None:
    """Else the group gives it partitions that nobody reads until its session ends."""
    scenario(partial(leaves_a_join, has_joined=has_joined), partitions=2)


# a commit that reaches its coordinator after a later one, by a connection that is no more


async def commits_late(world: World) -> None:
    world.join()
    await write(world, *["good"] * 10)
    await rest(world)
    lasting(world)[Api.OFFSET_COMMIT, "m1"] = Trouble(before_s=3.0)
    await write(world, *["good"] * 5)
    await asyncio.sleep(1.5)
    lasting(world).clear()
    world.cluster.network.cut()
    await write(world, *["good"] * 5)
    await world.until(lambda: committed(world) == 20, 2.0)
    await world.until(lambda: committed(world) == 15, 5.0)
    await rest(world)


def test_a_commit_that_comes_late_does_not_stand() -> None:
    """Else the group would lag until the next record, and repeat what was handled after a restart."""
    scenario(commits_late)


# 21: an offset that is gone from the log


async def finds_its_offset_gone(world: World, *, away: bool) -> None:
    world.join()
    await write(world, *["good"] * 10)
    await rest(world)
    if away:
        await world.members[0].leave()
    else:
        world.cluster.stop_node(1)
    await write(world, *["good"] * 10)
    world._trim_to((TOPIC, 0), broken.LOG_BEGINS)
    if away:
        world.join()
    else:
        world.cluster.start_node(1)
    for partition in (0, 1):
        await write(world, "good", partition=partition)
    await asyncio.sleep(STOPPED_AGAIN_S + 5)
    reason, advice = blocked(world, -1)
    assert reason == "offset_out_of_range"
    assert f"streamproc offsets set {TOPIC} 0 earliest" in advice
    assert (committed(world), committed(world, 1)) == (10, 1)
    await world.members[-1].leave()
    world.cluster.commit_offsets(GROUP, {(TOPIC, 0): (broken.LOG_BEGINS, "")})  # as that command does
    world.join()
    await rest(world)


@pytest.mark.parametrize("away", [True, False])
def test_an_offset_that_is_gone_is_never_reset(away: bool, record_batches: bool) -> None:
    """Its partition stands, and says what to do, until somebody says where it goes on; others go on."""
    oracle = scenario(partial(finds_its_offset_gone, away=away), record_batches=record_batches, partitions=2)
    assert oracle.counts["restarts"] == 0


async def stands(world: World, why: str) -> None:
    world.cluster.deny(DEAD, "write")
    await write(world, "reject", "good")
    if why == "offset_out_of_range":
        world.cluster.commit_offsets(GROUP, {(TOPIC, 0): (0, "")})
        world._trim_to((TOPIC, 0), 1)
    world.join()
    await world.until(lambda: blocked(world)[0] == why)
    await asyncio.sleep(1.0)
    await write(world, "good")
    await asyncio.sleep(1.0)
    before = len(answers(world, Api.FETCH))
    await asyncio.sleep(10.0)
    assert len(answers(world, Api.FETCH)) - before <= 20
    world.cluster.deny(DEAD)


@pytest.mark.parametrize("why", ["dead_letters_refused", "offset_out_of_range"])
def test_a_partition_that_stands_costs_the_broker_no_more_than_an_idle_one(why: str, record_batches: bool) -> None:
    """It may stand for days: a member with nothing else to read asks twice a second."""
    scenario(partial(stands, why=why), partitions=2, record_batches=record_batches)


# 22: a topic that is made anew


async def finds_another_topic(world: World, *, away: bool) -> None:
    world.join()
    await write(world, *["good"] * 10)
    await rest(world)
    commit = dict(world.cluster.group(GROUP).offsets)
    if away:
        await world.members[0].leave()
    world.cluster.delete_topic(TOPIC)
    world.make_topic(1)
    world.cluster.commit_offsets(GROUP, commit)  # one that was still on its way
    await write(world, *["good"] * 15)
    if away:
        world.join()
    await rest(world)
    new = [one for one in world.oracle.written.values() if one.topic == world.topic_id(TOPIC)]
    assert [bool(one.finished) for one in new] == [True] * 15
    assert world.oracle.counts["recreated"] == 1


@pytest.mark.parametrize("away", [True, False])
def test_a_topic_made_anew_is_read_from_its_beginning(away: bool, record_batches: bool) -> None:
    """Also where it is longer than what was committed of the old one; it is counted once."""
    oracle = scenario(partial(finds_another_topic, away=away), record_batches=record_batches)
    assert oracle.counts["restarts"] == 0


# 23: a partition that comes later


async def grows(world: World, *, away: bool) -> None:
    await write(world, *["good"] * 5)  # of before the group
    world.join()
    await world.until(lambda: reads(world) == 1)
    if away:
        await world.members[0].leave()
    world.cluster.grow_topic(TOPIC, 3)
    for partition in (0, 2):
        await write(world, *["good"] * 5, partition=partition)
    if away:
        world.join()
    await world.until(lambda: reads(world, -1) == 3)
    await rest(world)
    assert [bool(one.finished) for one in world.oracle.written.values()] == [False] * 5 + [True] * 10
    assert [committed(world, partition) for partition in range(3)] == [10, 0, 5]


@pytest.mark.parametrize("away", [True, False])
def test_a_partition_that_comes_later_is_read_from_its_beginning(away: bool, record_batches: bool) -> None:
    """Whatever was written before anybody saw it: `latest` is about where the group began."""
    scenario(partial(grows, away=away), starting_position="latest", record_batches=record_batches)


# that each can fail

BROKEN = {one.name: one.install for one in MUTANTS}
TWO: Changes = {"partitions": 2}
LATEST: Changes = {"starting_position": "latest"}
COME_BACK: Changes = {"partitions": 8}
CAUGHT: list[tuple[Install, Script, Changes, str]] = [
    (broken.fences_before_it_drains, passes_a_partition_on, PASSED_ON, "D: "),
    (BROKEN["leaves_without_a_commit"], passes_a_partition_on, PASSED_ON, "D: "),
    (broken.never_lets_go_of_what_is_fenced, partial(comes_back, kind="step"), COME_BACK, "is not settled"),
    (broken.never_lets_go_of_what_is_fenced, partial(comes_back, kind="bulk"), COME_BACK, "is not settled"),
    (BROKEN["forgets_the_calls_of_a_revoked_partition"], partial(comes_back, kind="step"), COME_BACK, "O: "),
    (BROKEN["hands_on_what_an_ended_assignment_brought"], is_assigned_anew, ANEW, "is not settled"),
    (BROKEN["passes_what_the_engine_never_took"], is_assigned_anew, ANEW, "C: "),
    (BROKEN["holds_its_partitions_for_ever"], commits_after_its_session, TWO, "HELD: "),
    (broken.commits_for_ever, commits_again_and_again, {}, "C: m1 committed 10 .* which stood at 20"),
    (BROKEN["settles_letters_that_were_refused"], partial(has_nowhere_to_put_letters, how="denied"), TWO, "C: "),
    (broken.polls_only_what_is_wanted, calls_for_long, {"partition_records_max": 3}, "is not settled"),
    (broken.drains_without_end, calls_for_longer_than_a_rebalance, {}, "assert 'streamproc-"),
    (broken.takes_no_answer_for_an_acknowledgement, partial(loses_its_coordinator, stops=False), MOVED, "committed up"),
    (broken.forgets_a_partition_that_was_silent, partial(is_cut_off, how="stopped"), TWO, "is not settled"),
    (broken.opens_a_partition_only_once, partial(is_cut_off, how="opening"), TWO, "opening"),
    *((broken.never_looks_at_its_client, partial(loses_a_task, task=task), {}, "without the task") for task in TASKS),
    (broken.goes_on_where_the_log_begins, partial(finds_its_offset_gone, away=True), TWO, "offset_out_of_range"),
    (BROKEN["commits_without_the_topic"], partial(finds_another_topic, away=True), {}, "is not settled"),
    (BROKEN["commits_without_the_topic"], partial(finds_another_topic, away=False), {}, "is not settled"),
    (broken.takes_a_new_partition_for_a_new_topic, partial(grows, away=True), LATEST, "is not settled"),
    (BROKEN["forgets_the_chosen_start"], partial(grows, away=True), LATEST, "is not settled"),
]
"""A broken build, the script that shows it, in which world, and what is said of it."""


@pytest.mark.parametrize(
    ("install", "script", "changes", "said"), CAUGHT, ids=[install.__name__ for install, *_ in CAUGHT]
)
def test_a_broken_build_is_caught(install: Install, script: Script, changes: Changes, said: str) -> None:
    """By the scenario of its own fault."""
    with install(), pytest.raises(AssertionError, match=said):
        scenario(script, **changes)
