"""The daily report: a mail with the counts of a day, as a table and as a chart."""

import math
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageDraw

from handlers.letter import DOMAIN, SENDER

_PAGE = """<!DOCTYPE html>
<html><body>
<h1>{title}</h1>
<table>
{rows}
</table>
<p><img src="cid:{chart}" alt="the counts as bars, each ten times as long as the next power of ten below it"></p>
</body></html>
"""
_WIDTH, _ROW, _LABEL, _DECADES = 420, 22, 110, 9


class Counted(NamedTuple):
    """What there was on a day: `readings` and `alerts` by the times of the sensors."""

    users: int
    orders: int
    readings: int
    alerts: int
    dead_letters: int


def compose(counted: Counted, since: datetime, until: datetime, *, key: str, to: str) -> EmailMessage:
    """The report of a day; `key` makes its Message-ID, the same for the same report."""
    title = f"Report of {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M}"
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in counted._asdict().items()]
    chart = f"chart.{key}@{DOMAIN}"
    message = EmailMessage()
    message["From"] = SENDER
    message["To"] = to
    message["Subject"] = title
    message["Date"] = format_datetime(until)
    message["Message-ID"] = f"<{key}@{DOMAIN}>"
    message.set_content("".join([f"{title}\n\n", *(f"{name:<14}{count:>14}\n" for name, count in rows)]))
    table = "\n".join(f'<tr><td>{name}</td><td align="right">{count}</td></tr>' for name, count in rows)
    message.add_alternative(_PAGE.format(title=title, rows=table, chart=chart), subtype="html")
    page = message.get_payload(1)
    assert isinstance(page, EmailMessage)
    page.add_related(_chart(counted), "image", "png", cid=f"<{chart}>", filename="chart.png", disposition="inline")
    return message


def _chart(counted: Counted) -> bytes:
    """Bars as long as the counts have digits, about: from nothing to a thousand millions on one scale."""
    picture = Image.new("RGB", (_WIDTH, _ROW * len(counted) + 4), "white")
    draw = ImageDraw.Draw(picture)
    for row, (name, count) in enumerate(counted._asdict().items()):
        top = row * _ROW + 4
        length = int((_WIDTH - _LABEL - 8) * min(1.0, math.log10(1 + count) / _DECADES))
        draw.text((4, top + 2), name.replace("_", " "), fill="black")
        draw.rectangle((_LABEL, top, _LABEL + length, top + _ROW - 8), fill="#3b6ea5")
    written = BytesIO()
    picture.save(written, "PNG")
    return written.getvalue()
