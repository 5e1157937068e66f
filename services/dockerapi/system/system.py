"""The engine itself: /_ping, /version, /info, /system/df."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from aiohttp import web

from dockerapi.http import versions
from dockerapi.http.call import Call, reply
from dockerapi.http.routing import Route
from dockerapi.system.host_facts import engine_id, host_facts, open_files
from sampan import services
from sampan.oci.reference import DEFAULT_REGISTRY
from sampan.resource.snapshot import DriversReport
from sampan.resource.stats import HostInfo, OciRuntimeInfo
from sampan.service.set_aside import read_set_aside
from sampan.version import VERSION

_PING_HEADERS: Final = {
    # Version 1 says that builds go to the classic endpoint; 2 would promise BuildKit's gRPC.
    "Builder-Version": "1",
    "Swarm": "inactive",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
}

_NOT_APPLICABLE: Final = "n/a"  # clients print what a Go program would say; an empty line looks like a fault


async def ping(call: Call) -> web.StreamResponse:
    """GET and HEAD /_ping."""
    body = b"" if call.request.method == "HEAD" else b"OK"
    headers = {**_PING_HEADERS, "Content-Type": "text/plain; charset=utf-8"}
    return web.Response(body=body, headers=headers)


async def version(call: Call) -> web.StreamResponse:
    """GET /version."""
    facts = host_facts()
    host = await call.runtime.host.info()
    runtime = _default_runtime(host)
    python = sys.version.partition(" ")[0]
    installed = await asyncio.to_thread(_installed)
    details = {
        "ApiVersion": versions.text(versions.NEWEST),
        "Arch": facts.architecture,
        "BuildTime": installed,
        "Experimental": "false",
        "GitCommit": _NOT_APPLICABLE,
        "GoVersion": f"{_NOT_APPLICABLE} (Python {python})",
        "KernelVersion": facts.kernel,
        "MinAPIVersion": versions.text(versions.OLDEST),
        "Os": "linux",
        "PythonVersion": python,
    }
    return reply(
        {
            "Platform": {"Name": "Sampan"},
            "Components": [
                {"Name": "Engine", "Version": VERSION, "Details": details},
                {"Name": "conmon", "Version": host.conmon_version, "Details": {}},
                {"Name": runtime.name, "Version": runtime.version, "Details": {}},
            ],
            "Version": VERSION,
            "ApiVersion": details["ApiVersion"],
            "MinAPIVersion": details["MinAPIVersion"],
            "GitCommit": details["GitCommit"],
            "GoVersion": details["GoVersion"],
            "Os": "linux",
            "Arch": facts.architecture,
            "KernelVersion": facts.kernel,
            "BuildTime": installed,
        }
    )


def _installed() -> str:
    """Return when this version came to the machine: nothing is built."""
    return datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC).isoformat()


def _default_runtime(host: HostInfo) -> OciRuntimeInfo:
    fallback = OciRuntimeInfo(host.default_runtime, "", "", usable=False)
    return next((one for one in host.runtimes if one.name == host.default_runtime), fallback)


async def info(call: Call) -> web.StreamResponse:
    """GET /info."""
    host, drivers, images = await asyncio.gather(
        call.runtime.host.info(), call.engine.layers.drivers(), call.engine.images.list(brief=True)
    )
    counts = {
        "Containers": host.containers_running + host.containers_paused + host.containers_stopped,
        "ContainersRunning": host.containers_running,
        "ContainersPaused": host.containers_paused,
        "ContainersStopped": host.containers_stopped,
        "Images": len(images),
    }
    layout = call.engine.layout
    set_aside = await asyncio.to_thread(read_set_aside, layout, services.ALL)
    head = {"ID": engine_id(layout.data_root)}
    return reply(
        head
        | counts
        | _storage(drivers)
        | _plugins(host)
        | _machine(host)
        | _engine(call, host, [str(each) for each in set_aside])
    )


def _storage(drivers: DriversReport) -> dict[str, object]:
    rows = [["Backing Filesystem", drivers.backing_filesystem]] if drivers.backing_filesystem else []
    for driver in drivers.drivers:
        verdict = "usable" if driver.usable else "not usable"
        rows.append([f"Driver {driver.name}", f"{verdict}: {driver.reason}" if driver.reason else verdict])
    return {"Driver": drivers.driver, "DriverStatus": rows}


def _plugins(host: HostInfo) -> dict[str, object]:
    return {
        "Plugins": {
            "Volume": list(host.volume_drivers),
            "Network": list(host.network_drivers),
            "Authorization": None,
            "Log": list(host.log_drivers),
        }
    }


def _machine(host: HostInfo) -> dict[str, object]:
    facts = host_facts()
    return {
        "MemoryLimit": True,
        "SwapLimit": True,
        "CpuCfsPeriod": True,
        "CpuCfsQuota": True,
        "CPUShares": True,
        "CPUSet": True,
        "PidsLimit": True,
        "IPv4Forwarding": True,
        "OomKillDisable": host.cgroup_version == 1,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(host.cgroup_version or 1),
        "KernelVersion": facts.kernel,
        "OperatingSystem": facts.operating_system,
        "OSVersion": facts.os_version,
        "OSType": "linux",
        "Architecture": facts.machine,
        "NCPU": facts.cpus,
        "MemTotal": facts.memory_bytes,
        "Name": facts.name,
    }


def _engine(call: Call, host: HostInfo, set_aside: Sequence[str]) -> dict[str, object]:
    runtimes: dict[str, object] = {one.name: {"path": one.path or one.name} for one in host.runtimes if one.usable}
    layout = call.engine.layout
    problems = [f"WARNING: {problem}" for name in services.ALL for problem in layout.problems(name)]
    refused = [f"runtime {one.name} is not usable: {one.reason}" for one in host.runtimes if not one.usable]
    security = list(host.security_options)
    if call.version < (1, 25):
        security = [option.removeprefix("name=").partition(",")[0] for option in security]
    return {
        "Debug": False,
        "NFd": open_files(),
        "NGoroutines": len(asyncio.all_tasks()),
        "NEventsListener": 0,
        "SystemTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "LoggingDriver": "json-file",
        "IndexServerAddress": f"{DEFAULT_REGISTRY}/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": {
                DEFAULT_REGISTRY: {"Name": DEFAULT_REGISTRY, "Mirrors": [], "Secure": True, "Official": True}
            },
            "Mirrors": None,
        },
        "GenericResources": None,
        "DockerRootDir": str(layout.data_root),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": VERSION,
        "Runtimes": runtimes,
        "DefaultRuntime": host.default_runtime,
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": _default_runtime(host).version},
        "InitCommit": {"ID": ""},
        "SecurityOptions": security,
        "CDISpecDirs": [],
        "Warnings": [*host.warnings, *refused, *set_aside, *problems] or None,
    }


async def plugins(_: Call) -> web.StreamResponse:
    """GET /plugins: drivers are built in."""
    return reply([])


ROUTES: Final = (
    Route("GET", "/_ping", ping, alone=True),
    Route("HEAD", "/_ping", ping, alone=True),
    Route("GET", "/version", version),
    Route("GET", "/info", info),
    Route("GET", "/plugins", plugins),
)
