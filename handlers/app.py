"""The functions of this application: the whole list."""

from handlers.order_placed import OrderPlaced, take_stock
from handlers.orders import get_order, place_order
from handlers.readings import accept_readings
from handlers.sensor_reading import SensorReading, store_readings
from handlers.services import open_services
from handlers.stores.opening import MIGRATIONS
from handlers.user_created import UserCreated, send_welcome_email
from handlers.users import create_user, get_user, list_users
from streamproc import App, Http, Stream

app = App(
    functions=[
        Http("POST", "/users", create_user, scope="users:write"),
        Http("GET", "/users/{id}", get_user, scope="users:read"),
        Http("GET", "/users", list_users, scope="users:read"),
        Stream(UserCreated, send_welcome_email, max_retry_attempts=8),
        Http("POST", "/orders", place_order, scope="orders:write"),
        Http("GET", "/orders/{id}", get_order, scope="orders:read"),
        Stream(OrderPlaced, take_stock, key="order_id", concurrency=200, timeout_s=10),
        Http("POST", "/readings", accept_readings, scope="readings:write", body_bytes_max=4_194_304, concurrency=50),
        Stream(SensorReading, store_readings, batch_size=500, batch_window_s=0.2),
    ],
    services=open_services,
    outbox=lambda services: services.outbox,
    migrations=MIGRATIONS,
)
