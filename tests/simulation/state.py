"""Judges the engines' state at each step of the loop: EXACT-SETTLE, SAFE-COMMIT, DEAD-BEFORE-DONE, BOUNDED."""

from typing import Any

from streamproc.core.ledger import Ledger
from tests.simulation.book import Book, at
from tests.simulation.facts import Epoch


class State:
    """Compares each ledger with what was seen from outside."""

    def __init__(self, book: Book) -> None:
        self._book = book
        options = book.scenario.options
        self._records_max = options.partition_records_max - 1 + book.scenario.fetch_max
        self._span_max = options.span_max - 1 + book.scenario.fetch_max
        self._bytes_max = options.in_flight_bytes_max - 1

    def look(self, member: Any) -> None:
        """After a step of the loop."""
        nbytes = 0
        epochs = self._book.epochs[member]
        for partition, ledger in member.pipeline.engine.ledgers.items():
            nbytes += ledger.nbytes
            epoch = epochs.get(partition)
            if epoch is None:
                self._book.fail("FENCED", f"{member} keeps a ledger of {at(partition, ledger.admitted)} it has not got")
                return
            unsettled, position = epoch.unsettled, epoch.position
            if ledger.unsettled != unsettled or ledger.position() != position:
                self._explain(epoch, ledger, unsettled, position)
            if not epoch.history or epoch.history[-1][1] != position:
                epoch.history.append((self._book.now(), position))
            if ledger.unsettled > self._records_max:
                self._book.fail("BOUNDED", f"{ledger.unsettled} records of {at(partition, position)} are unsettled")
            if ledger.admitted - position > self._span_max:
                self._book.fail("BOUNDED", f"{at(partition, position)} is {ledger.admitted - position} behind")
        if nbytes > self._bytes_max + member.consumer.polled_bytes_max:
            self._book.fail("BOUNDED", f"{member} holds {nbytes} bytes")

    def _explain(self, epoch: Epoch, ledger: Ledger, unsettled: int, position: int) -> None:
        """Which invariant it is that ledger and facts differ in."""
        name = f"{epoch.member}, partition {epoch.partition.partition}"
        kept = {
            record.offset
            for entry in ledger.entries
            for record, pending in zip(entry.batch.records, entry.pending, strict=True)
            if pending
        }
        seen = epoch.log.seen[position : ledger.admitted]
        early = [one.offset for one in seen if not (one.passes or one.offset in epoch.settled or one.offset in kept)]
        if early:
            invariant = "DEAD-BEFORE-DONE" if epoch.awaits_letter(early[0]) else "EXACT-SETTLE"
            self._book.fail(invariant, f"{name}: {early[0]} is settled, and nothing has settled it")
        elif ledger.unsettled != unsettled:
            self._book.fail("EXACT-SETTLE", f"{name}: {ledger.unsettled} records are unsettled, should be {unsettled}")
        else:
            text = f"{name}: the ledger stands at {ledger.position()}, should be {position}"
            self._book.fail("SAFE-COMMIT", text)
