"""The functions of this application: the whole list."""

from handlers.daily_cleanup import daily_cleanup, delete_old_readings
from handlers.file_uploaded import resize_picture
from handlers.filekeys import FILE_BYTES_MAX
from handlers.files import get_file, put_file
from handlers.fulfilment import fulfil_order
from handlers.order_placed import OrderPlaced
from handlers.orders import get_order, place_order
from handlers.readings import accept_readings, list_readings
from handlers.sensor_reading import SensorReading, store_readings
from handlers.services import open_services
from handlers.stores.opening import MIGRATIONS
from handlers.temperature_alert import TemperatureAlert, send_alert_mail
from handlers.user_created import UserCreated, send_welcome_email
from handlers.users import create_user, get_user, list_users
from streamproc import App, Http, S3Event, Schedule, Stream

app = App(
    functions=[
        Http("POST", "/users", create_user, scope="users:write"),
        Http("GET", "/users/{id}", get_user, scope="users:read"),
        Http("GET", "/users", list_users, scope="users:read"),
        Stream(UserCreated, send_welcome_email, max_retry_attempts=8),
        Http("POST", "/orders", place_order, scope="orders:write"),
        Http("GET", "/orders/{id}", get_order, scope="orders:read"),
        Stream(OrderPlaced, fulfil_order, key="order_id", concurrency=200, timeout_s=60, max_retry_attempts=-1),
        Http("POST", "/readings", accept_readings, scope="readings:write", body_bytes_max=4_194_304, concurrency=50),
        Http("GET", "/readings", list_readings, scope="readings:read"),
        Stream(SensorReading, store_readings, batch_size=500, batch_window_s=0.2),
        Http("PUT", "/files/{key:path}", put_file, scope="files:write", body_bytes_max=FILE_BYTES_MAX, concurrency=8),
        Http("GET", "/files/{key:path}", get_file, scope="files:read", concurrency=50),
        Stream(S3Event, resize_picture, concurrency=4, timeout_s=120),
        Stream(TemperatureAlert, send_alert_mail, max_retry_attempts=8),
        Schedule("daily-cleanup", "0 3 * * *", daily_cleanup, tz="Europe/Berlin"),
        Schedule("reading-retention", "30 3 * * *", delete_old_readings),
    ],
    services=open_services,
    outbox=lambda services: services.outbox,
    firings=lambda services: services.firings,
    migrations=MIGRATIONS,
)
