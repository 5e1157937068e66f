"""What ``RuntimeService`` says of usage: decode, one call, encode."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc

from crid.containers.containers import Containers, Selection
from crid.stats import series
from crid.stats.usage import ContainerUse, PodUse, Usages, Wanted
from crid.wire.usage import fill_container, fill_metric, fill_pod
from sampan.api.cri.v1 import stats_pb2 as pb
from sampan.errors import InvalidArgumentError

Context = grpc.aio.ServicerContext[Any, Any]

# What one message of a stream has: a pod's metrics are some ten kilobytes.
PAGE: Final = 32

# A pod, and the rows of its containers.
_PodSeries = tuple[PodUse, Sequence[series.Row]]


class StatsServicer:
    """Usage of pods and containers."""

    def __init__(self, usages: Usages, containers: Containers, layers: Path) -> None:
        """``layers`` is the directory that containers write below."""
        self._usages = usages
        self._containers = containers
        self._layers = layers
        self._layers_text = str(layers)

    async def ContainerStats(self, request: pb.ContainerStatsRequest, context: Context) -> pb.ContainerStatsResponse:
        """Return one's."""
        if not request.container_id:
            raise InvalidArgumentError("container_id is empty")
        use = await self._usages.container(request.container_id)
        answer = pb.ContainerStatsResponse()
        fill_container(answer.stats, use, self._layers_text)
        return answer

    async def ListContainerStats(
        self, request: pb.ListContainerStatsRequest, context: Context
    ) -> pb.ListContainerStatsResponse:
        """Return those asked for."""
        answer = pb.ListContainerStatsResponse()
        for use in await self._of_containers(request.filter):
            fill_container(answer.stats.add(), use, self._layers_text)
        return answer

    async def StreamContainerStats(
        self, request: pb.StreamContainerStatsRequest, context: Context
    ) -> AsyncIterator[pb.StreamContainerStatsResponse]:
        """Yield those asked for."""
        found = await self._of_containers(request.filter)
        for begin in range(0, len(found), PAGE):
            page = pb.StreamContainerStatsResponse()
            for use in found[begin : begin + PAGE]:
                fill_container(page.container_stats.add(), use, self._layers_text)
            yield page

    async def PodSandboxStats(self, request: pb.PodSandboxStatsRequest, context: Context) -> pb.PodSandboxStatsResponse:
        """Return one's."""
        if not request.pod_sandbox_id:
            raise InvalidArgumentError("pod_sandbox_id is empty")
        use = await self._usages.pod(request.pod_sandbox_id)
        answer = pb.PodSandboxStatsResponse()
        fill_pod(answer.stats, use, self._layers_text)
        return answer

    async def ListPodSandboxStats(
        self, request: pb.ListPodSandboxStatsRequest, context: Context
    ) -> pb.ListPodSandboxStatsResponse:
        """Return those asked for."""
        answer = pb.ListPodSandboxStatsResponse()
        for use in await self._of_pods(request.filter):
            fill_pod(answer.stats.add(), use, self._layers_text)
        return answer

    async def StreamPodSandboxStats(
        self, request: pb.StreamPodSandboxStatsRequest, context: Context
    ) -> AsyncIterator[pb.StreamPodSandboxStatsResponse]:
        """Yield those asked for."""
        found = await self._of_pods(request.filter)
        for begin in range(0, len(found), PAGE):
            page = pb.StreamPodSandboxStatsResponse()
            for use in found[begin : begin + PAGE]:
                fill_pod(page.pod_sandbox_stats.add(), use, self._layers_text)
            yield page

    async def ListMetricDescriptors(
        self, request: pb.ListMetricDescriptorsRequest, context: Context
    ) -> pb.ListMetricDescriptorsResponse:
        """Return what metrics there are."""
        return pb.ListMetricDescriptorsResponse(
            descriptors=[
                pb.MetricDescriptor(name=name, help=meaning, label_keys=labels)
                for name, meaning, labels in series.descriptors()
            ]
        )

    async def ListPodSandboxMetrics(
        self, request: pb.ListPodSandboxMetricsRequest, context: Context
    ) -> pb.ListPodSandboxMetricsResponse:
        """Return the metrics of all pods."""
        answer = pb.ListPodSandboxMetricsResponse()
        for found in await self._metrics():
            _fill_metrics(answer.pod_metrics.add(), found)
        return answer

    async def StreamPodSandboxMetrics(
        self, request: pb.StreamPodSandboxMetricsRequest, context: Context
    ) -> AsyncIterator[pb.StreamPodSandboxMetricsResponse]:
        """Yield the metrics of all pods."""
        found = await self._metrics()
        for begin in range(0, len(found), PAGE):
            page = pb.StreamPodSandboxMetricsResponse()
            for each in found[begin : begin + PAGE]:
                _fill_metrics(page.pod_sandbox_metrics.add(), each)
            yield page

    async def _of_containers(self, asked: pb.ContainerStatsFilter) -> list[ContainerUse]:
        return await self._usages.containers(Wanted(asked.id, asked.pod_sandbox_id, dict(asked.label_selector)))

    async def _of_pods(self, asked: pb.PodSandboxStatsFilter) -> list[PodUse]:
        return await self._usages.pods(Wanted(asked.id, labels=dict(asked.label_selector)))

    async def _metrics(self) -> list[_PodSeries]:
        pods, views, filesystem = await asyncio.gather(
            self._usages.pods(Wanted(), detailed=True),
            self._containers.select(Selection()),
            asyncio.to_thread(series.filesystem_of, self._layers),
        )
        started = {view.record.id: view.started_ns for view in views}
        return [(pod, series.rows(pod, started, filesystem)) for pod in pods]


def _fill_metrics(made: pb.PodSandboxMetrics, found: _PodSeries) -> None:
    pod, rows = found
    made.pod_sandbox_id = pod.sandbox.id
    for metric in series.of_pod(pod):
        fill_metric(made.metrics.add(), metric)
    for row in rows:
        container = made.container_metrics.add()
        container.container_id = row.record.id if row.record else ""
        for metric in series.of_container(pod, row):
            fill_metric(container.metrics.add(), metric)
