"""`s3.event`: makes pictures for web pages of what is uploaded, whoever tells of it: `/files`, or the object store."""

from handlers.filekeys import FILE_BYTES_MAX, UPLOADS, original, resized
from handlers.pictures import resize
from handlers.services import Services
from handlers.stores.processed import Refused
from streamproc import Context, Reject, S3Event
from streamproc.errors import ComputeLimit, ObjectTooLarge


async def resize_picture(event: S3Event, ctx: Context[Services]) -> Reject | None:
    """Resizes each new upload of the event, then says what the first that could not be is refused for.

    What is elsewhere is left alone, most of all what this function itself has stored. To repeat it does no harm.
    """
    created = (record.key for record in event.records if record.is_created)
    keys = dict.fromkeys(key.removeprefix(UPLOADS) for key in created if key.startswith(UPLOADS))
    outcomes = [await _resize(key, ctx.services) for key in keys]
    return next(filter(None, outcomes), None)


async def _resize(key: str, services: Services) -> Reject | None:
    try:
        data = await services.objects.get(original(key), bytes_max=FILE_BYTES_MAX)
        if data is None:
            return Reject("gone", "the object is not there any more")
        picture = await services.compute.run(resize, data)
        await services.objects.put(resized(key), picture, content_type="image/jpeg")
    except Refused as refused:
        return refused.outcome
    except ValueError as error:
        return Reject("key", str(error))
    except ObjectTooLarge as error:
        return Reject("too_large", str(error))
    except ComputeLimit as error:
        return Reject("too_costly", str(error))
    return None
