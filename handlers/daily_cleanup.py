"""Every night: old files go, and a report comes. What failed is tried again, without what is done."""

import asyncio
import hashlib
from datetime import timedelta

from handlers import housekeeping, report
from handlers.services import Services
from streamproc import Context, Leg, LegContext, Parallel, Reject, RetryLater, TaskDue, Workflow

TEMPORARY_FOR = timedelta(days=1)
LOGS_FOR = timedelta(days=7)
READINGS_FOR = timedelta(days=30)


async def delete_temporary_files(_task: TaskDue, leg: LegContext[Services]) -> None:
    """Deletes temporary files older than a day."""
    before = (leg.now - TEMPORARY_FOR).timestamp()
    leg.result = str(await asyncio.to_thread(housekeeping.delete_old, leg.services.folders.temporary, before))


async def archive_logs(_task: TaskDue, leg: LegContext[Services]) -> None:
    """Compresses logs older than a week; a log goes when its archive was read back."""
    before = (leg.now - LOGS_FOR).timestamp()
    leg.result = str(await asyncio.to_thread(housekeeping.archive_old, leg.services.folders.logs, before))


async def send_report(task: TaskDue, leg: LegContext[Services]) -> None:
    """Mails the counts of the day that ended when the task was due."""
    services, until = leg.services, task.fire_at
    since = until - timedelta(days=1)
    readings, alerts = await services.readings.count(since, until)
    counted = report.Counted(
        users=await services.users.count(since, until),
        orders=await services.orders.count(since, until),
        readings=readings,
        alerts=alerts,
        dead_letters=await services.dead_letters(since, until),
    )
    key = hashlib.sha256(leg.key.encode()).hexdigest()[:32]
    mail = await asyncio.to_thread(report.compose, counted, since, until, key=key, to=services.operators)
    await services.mailer.send(mail)
    leg.result = " ".join(map(str, counted))


CLEANUP = Workflow(
    "daily-cleanup",
    Parallel(
        Leg("temporary_files", delete_temporary_files, timeout_s=600),
        Leg("logs", archive_logs, timeout_s=1_800),
        Leg("report", send_report, timeout_s=300),
    ),
)


async def daily_cleanup(task: TaskDue, ctx: Context[Services]) -> Reject | RetryLater | None:
    """Does the three parts; one that fails lets the others run."""
    return await CLEANUP.run(task, ctx, subject=task.fire_at.isoformat(), journal=ctx.services.journal)


async def delete_old_readings(task: TaskDue, ctx: Context[Services]) -> None:
    """Deletes what was measured more than 30 days ago."""
    deleted = await ctx.services.readings.delete_before(task.fire_at - READINGS_FOR)
    ctx.log.info("deleted %d readings", deleted)
