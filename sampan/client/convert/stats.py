"""Samples of what containers use, and their processes; what the host can do."""

from typing import Final

from sampan.api.runtime.v1 import containers_pb2, host_pb2
from sampan.client.convert.codec import Codec
from sampan.resource.stats import (
    BlockIoSample,
    ContainerSample,
    ContainerStats,
    CpuSample,
    DeviceTraffic,
    HostInfo,
    HugepageUse,
    InterfaceSample,
    MemorySample,
    OciRuntimeInfo,
    Pressure,
    SampleDetails,
    Stall,
    Top,
)

HOST: Final = Codec(
    HostInfo, host_pb2.HostInfoResponse, nested=(Codec(OciRuntimeInfo, host_pb2.HostInfoResponse.Runtime),)
)


STATS: Final = Codec(
    ContainerStats,
    containers_pb2.StatsResponse,
    nested=(
        Codec(CpuSample, containers_pb2.StatsResponse.Cpu),
        Codec(MemorySample, containers_pb2.StatsResponse.Memory),
        Codec(InterfaceSample, containers_pb2.StatsResponse.Interface),
        Codec(BlockIoSample, containers_pb2.StatsResponse.BlockIo),
    ),
)


_TRAFFIC: Final = Codec(DeviceTraffic, containers_pb2.SamplesResponse.BlockIo)
_HUGEPAGES: Final = Codec(HugepageUse, containers_pb2.SamplesResponse.Hugepages)
_DETAILS: Final = Codec(SampleDetails, containers_pb2.SamplesResponse.Details, nested=(_TRAFFIC, _HUGEPAGES))
_PRESSURE: Final = Codec(
    Pressure, containers_pb2.SamplesResponse.Pressure, nested=(Codec(Stall, containers_pb2.SamplesResponse.Stall),)
)
SAMPLE: Final = Codec(ContainerSample, containers_pb2.SamplesResponse.Sample, nested=(_DETAILS, _PRESSURE))


def row_to_proto(row: tuple[str, ...]) -> containers_pb2.TopResponse.Row:
    """Return a row of the table of processes."""
    return containers_pb2.TopResponse.Row(values=row)


def top_from_proto(message: containers_pb2.TopResponse) -> Top:
    """Return a table of processes."""
    return Top(tuple(message.titles), tuple(tuple(row.values) for row in message.processes))
