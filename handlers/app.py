"""The functions of this application: the whole list."""

from handlers.order_placed import OrderPlaced, take_stock
from handlers.sensor_reading import SensorReading, store_readings
from handlers.services import open_services
from handlers.user_created import UserCreated, send_welcome_email
from streamproc import App, Stream

app = App(
    functions=[
        Stream(UserCreated, send_welcome_email, max_retry_attempts=8),
        Stream(OrderPlaced, take_stock, key="order_id", concurrency=200, timeout_s=10),
        Stream(SensorReading, store_readings, batch_size=500, batch_window_s=0.2),
    ],
    services=open_services,
)
