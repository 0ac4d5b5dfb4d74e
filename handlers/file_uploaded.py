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
    """Leaves what was made of the last upload: who stores it looks whether the upload is still the same."""
    done: object = object()
    outcome: Reject | None = None
    try:
        while (data := await services.objects.get(original(key), bytes_max=FILE_BYTES_MAX)) != done:
            outcome = await _store(data, resized(key), services)
            done = data
    except Refused as refused:
        return refused.outcome
    except ValueError as error:
        return Reject("key", str(error))
    except ObjectTooLarge as error:
        await services.objects.delete(resized(key))
        return Reject("too_large", str(error))
    return outcome


async def _store(data: bytes | None, name: str, services: Services) -> Reject | None:
    """Stores the picture made of an upload; where none can be made, none is left of an earlier upload."""
    try:
        if data is None:
            raise Refused("gone", "the object is not there any more")
        picture = await services.compute.run(resize, data)
    except (Refused, ComputeLimit) as error:
        await services.objects.delete(name)
        return error.outcome if isinstance(error, Refused) else Reject("too_costly", str(error))
    await services.objects.put(name, picture, content_type="image/jpeg")
    return None
