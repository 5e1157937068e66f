"""What ``RuntimeService`` tells as it happens."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import grpc

from crid.containers.containers import Containers, Selection
from crid.containers.events import Kind, PodEvent, PodEvents
from crid.sandboxes.sandboxes import Sandboxes
from crid.wire.container_servicer import status_to_proto
from crid.wire.sandbox_servicer import sandbox_status
from sampan.api.cri.v1 import sandbox_pb2 as pb
from sampan.errors import NotFoundError

Context = grpc.aio.ServicerContext[Any, Any]

_KINDS: Final = {
    Kind.CREATED: pb.CONTAINER_CREATED_EVENT,
    Kind.STARTED: pb.CONTAINER_STARTED_EVENT,
    Kind.STOPPED: pb.CONTAINER_STOPPED_EVENT,
    Kind.DELETED: pb.CONTAINER_DELETED_EVENT,
}


class EventsServicer:
    """Events of pods and containers."""

    def __init__(self, events: PodEvents, sandboxes: Sandboxes, containers: Containers) -> None:
        self._events = events
        self._sandboxes = sandboxes
        self._containers = containers

    async def GetContainerEvents(
        self, request: pb.GetEventsRequest, context: Context
    ) -> AsyncIterator[pb.ContainerEventResponse]:
        """Yield them, each with its pod as it is when it is told."""
        async with aclosing(self._events.subscribe()) as events:
            async for event in events:
                if event is None:
                    await context.send_initial_metadata(())  # from here on nothing is missed
                else:
                    yield await self._answer(event)

    async def _answer(self, event: PodEvent) -> pb.ContainerEventResponse:
        answer = pb.ContainerEventResponse(
            container_id=event.id, container_event_type=_KINDS[event.kind], created_at=event.time_ns
        )
        try:
            sandbox = self._sandboxes.get(event.sandbox)
        except NotFoundError:
            return answer
        views = await self._containers.select(Selection(sandbox=sandbox.id))
        answer.pod_sandbox_status.CopyFrom(sandbox_status(sandbox))
        answer.containers_statuses.extend(map(status_to_proto, views))
        return answer
