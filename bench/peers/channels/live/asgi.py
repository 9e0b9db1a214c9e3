"""A consumer per socket, a group per run: as the Channels tutorial writes it."""

import json
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "live.settings")

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path


class RunConsumer(AsyncWebsocketConsumer):
    """Sends a run's events."""

    async def connect(self) -> None:
        self.run_id = self.scope["url_route"]["kwargs"]["run_id"]
        await self.channel_layer.group_add(self.run_id, self.channel_name)
        await self.accept()
        greeting = {"type": "run_status", "payload": {"status": "connected"}, "ts": "", "runId": self.run_id}
        await self.send(text_data=json.dumps(greeting))

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.run_id, self.channel_name)

    async def run_event(self, message: dict[str, Any]) -> None:
        await self.send(text_data=message["text"])


application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws/runs/<str:run_id>", RunConsumer.as_asgi())]),
    }
)
