"""What is measured, and how. Every time is the client's: from starting its process to its end."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from bench import collection, copying, logs, many_containers, many_images, native, processes, reading, whole_images
from bench.builds import measures as builds
from bench.builds.projects import CONTEXT_FILES, SOURCE_FILES, STAGES_S, STEPS
from bench.engines import Engine
from bench.measure import SETTLE_S, Bench, Measure, Unmeasured, seconds
from bench.pulls import LAYERS, SMALL_FILES

OUTPUT_BYTES = 100_000_000
LINE_BYTES = 72
CONTAINERS = 20
AT_A_TIME = 8
IDLE = ("sleep", "3600")
_SAMPLE_S = 0.02


def run_without_network(engine: Engine, bench: Bench) -> float:
    """A container's whole life, without a network."""
    return seconds(engine, "run", "--rm", "--network=none", bench.image, "true")


def run_on_bridge(engine: Engine, bench: Bench) -> float:
    """A container's whole life on the default bridge."""
    return seconds(engine, "run", "--rm", bench.image, "true")


def run_on_both_families(engine: Engine, bench: Bench) -> float:
    """The same on a network of IPv4 and IPv6; what matters is how it compares to the one below on IPv4 alone."""
    return _run_on_own_network(engine, bench, "--ipv6", "--subnet", "fd00:be:1::/64")


def run_on_one_family(engine: Engine, bench: Bench) -> float:
    """A container's whole life on a network of the user's own."""
    return _run_on_own_network(engine, bench)


def _run_on_own_network(engine: Engine, bench: Bench, *flags: str) -> float:
    network = f"bench-{bench.round}"
    engine("network", "create", *flags, network)
    try:
        return seconds(engine, "run", "--rm", "--network", network, bench.image, "true")
    finally:
        engine("network", "rm", network)


def execute(engine: Engine, bench: Bench) -> float:
    """A command in a container that runs."""
    container = f"exec-{bench.round}"
    engine("run", "--detach", "--name", container, "--network=none", bench.image, *IDLE)
    try:
        seconds(engine, "exec", container, "true")
        return seconds(engine, "exec", container, "true")
    finally:
        engine.remove(container)


def pull(engine: Engine, bench: Bench) -> float:
    """Pull an image of which the engine has nothing, until a container can be started from it."""
    took = seconds(engine, *engine.over_http("pull", "--quiet", bench.fresh))
    engine("rmi", "--force", bench.fresh)
    return took


def peak_memory_of_pull(engine: Engine, bench: Bench) -> float:
    """The most that the engine's processes, those that unpack among them, hold at once during a pull."""
    if not engine.daemons():
        raise Unmeasured
    peak, over = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(_SAMPLE_S):
            peak = max(peak, sum(map(processes.pss_bytes_if_there, engine.daemons())))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        pull(engine, bench)
    finally:
        over.set()
        watcher.join()
    return float(peak)


def _names(bench: Bench) -> list[str]:
    return [f"idle-{bench.round}-{number}" for number in range(CONTAINERS)]


def _remove(engine: Engine, names: list[str]) -> None:
    engine.remove(*names, check=False)


def start_in_turn(engine: Engine, bench: Bench) -> float:
    """Containers in the background, one after another."""
    names = _names(bench)
    begin = time.monotonic()
    try:
        for name in names:
            engine("run", "--detach", "--name", name, bench.image, *IDLE)
        return time.monotonic() - begin
    finally:
        _remove(engine, names)


def start_at_once(engine: Engine, bench: Bench) -> float:
    """The same, several at a time."""
    names = _names(bench)
    begin = time.monotonic()
    try:
        with ThreadPoolExecutor(AT_A_TIME) as pool:
            list(pool.map(lambda name: engine("run", "--detach", "--name", name, bench.image, *IDLE), names))
        return time.monotonic() - begin
    finally:
        _remove(engine, names)


def foreground_output(engine: Engine, bench: Bench) -> float:
    """Output of a container, read through the client; every byte is counted."""
    script = f"yes {'x' * (LINE_BYTES - 1)} | head -c {OUTPUT_BYTES}"
    command = engine.command("run", "--rm", "--network=none", bench.image, "sh", "-c", script)
    begin = time.monotonic()
    with subprocess.Popen(command, env=engine.env(), stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        received = 0
        while piece := os.read(client.stdout.fileno(), 1 << 20):
            received += len(piece)
    if client.returncode != 0 or received != OUTPUT_BYTES:
        raise RuntimeError(f"{engine.name}: exit code {client.returncode}, {received} of {OUTPUT_BYTES} bytes")
    return time.monotonic() - begin


def memory_per_container(engine: Engine, bench: Bench) -> float:
    """What stays with each idle container besides its own process."""
    names = _names(bench)
    try:
        for name in names:
            engine("run", "--detach", "--name", name, "--network=none", bench.image, *IDLE)
        return sum(processes.pss_bytes(pid) for pid in engine.shim_pids()) / CONTAINERS
    finally:
        _remove(engine, names)


def memory_of_daemons(engine: Engine, bench: Bench) -> float:  # noqa: ARG001  # a measure takes both
    """What ``ps`` shows for the engine's own processes while nothing runs; pages they share count for each."""
    time.sleep(SETTLE_S)
    return float(sum(processes.rss_bytes(pid) for pid in engine.daemons()))


def own_memory_of_daemons(engine: Engine, bench: Bench) -> float:  # noqa: ARG001
    """What they cost the machine: pages they share count once."""
    return float(sum(processes.pss_bytes(pid) for pid in engine.daemons()))


MEASURES: Mapping[str, Measure] = {
    "run-none": Measure("`run --rm --network none`", "ms", run_without_network, 20),
    "run-bridge": Measure("`run --rm` on the bridge", "ms", run_on_bridge, 20),
    "run-network": Measure("`run --rm` on a network of one's own", "ms", run_on_one_family, 20),
    "run-dual": Measure("the same, IPv4 and IPv6", "ms", run_on_both_families, 20),
    "exec": Measure("`exec` in a running container", "ms", execute, 20),
    "pull": Measure("pull, one layer of 93 MB (211 MB, 6,769 entries)", "s", pull, 5, "one"),
    "pull-layers": Measure(f"pull, the same in {LAYERS} layers", "s", pull, 3, "ten"),
    "pull-small": Measure(f"pull, {SMALL_FILES:,} small files", "s", pull, 3, "small"),
    "pull-memory": Measure(f"peak memory of the {LAYERS}-layer pull (PSS)", "MB", peak_memory_of_pull, 1, "ten"),
    "push": Measure("push, one layer of 93 MB", "s", whole_images.push, 3, "one"),
    "save": Measure("save to a file", "s", whole_images.save, 3),
    "load": Measure("load of dockerd's archive", "s", whole_images.load, 3, "one"),
    "rmi": Measure("`rmi`", "ms", whole_images.remove, 3, "one"),
    "commit": Measure("commit of 200 MB in 5,020 files", "s", whole_images.commit, 3),
    "commit-run": Measure("the same, and a first container of it", "s", whole_images.commit_and_run, 2),
    "read-cold": Measure("reading all of Debian, not in memory", "s", reading.read_cold, 3),
    "read-warm": Measure("reading it once more", "s", reading.read_warm, 3),
    "start": Measure(f"{CONTAINERS} × `run -d`, in turn", "s", start_in_turn, 3),
    "start-parallel": Measure(f"{CONTAINERS} × `run -d`, {AT_A_TIME} at a time", "s", start_at_once, 3),
    "start-many": Measure(
        f"the last of {many_containers.RUNNING} × `run -d`, as a multiple of the first",
        "×",
        many_containers.growth_of_starts,
        1,
    ),
    "ps-many": Measure(
        f"`ps`, {many_containers.RUNNING} running and {many_containers.KNOWN:,} known", "ms", many_containers.listing, 1
    ),
    "cp-in": Measure("`cp` of 200 MB into a container", "s", copying.copy_in, 3),
    "cp-out": Measure("`cp` of 200 MB out of it", "s", copying.copy_out, 3),
    "native-ps": Measure("`sampan ps`, as a multiple of `docker ps` on the same engine", "×", native.ps, 10),
    "native-run": Measure("`sampan run`, as a multiple of `docker run` on the same engine", "×", native.run, 10),
    "up": Measure("`up --detach`, from nothing to healthy", "s", native.up, 3),
    "output": Measure(f"100 MB of {LINE_BYTES}-byte lines to the foreground", "s", foreground_output, 3),
    "logs-write": Measure("a container that writes 100 MB, with nobody listening", "s", logs.write, 3),
    "logs": Measure("`logs` of 100 MB", "s", logs.read, 3),
    "logs-tail": Measure(f"`logs --tail {logs.TAIL_LINES}` of 1 GB", "ms", logs.tail, 2),
    "rmi-many": Measure(f"{many_images.GONE.images} × `rmi`", "s", many_images.remove_each, 1),
    "df": Measure(f"`system df`, {many_images.STOCK.images} images", "ms", many_images.disk_usage, 5),
    "df-api": Measure("the same, the API's request alone", "ms", many_images.disk_usage_request, 20),
    "gc": Measure(
        f"garbage collection, {collection.IMAGES} images of {collection.LAYERS:,} layers", "s", collection.collect, 3
    ),
    "gc-pull": Measure("pull, one layer, while pass follows pass", "s", collection.pull_meanwhile, 3, "one"),
    "build-cold": Measure(f"build: {STEPS} small `RUN` steps, nothing cached", "s", builds.cold, 5),
    "build-again": Measure(
        f"build: {STEPS} steps, {SOURCE_FILES:,} source files, nothing changed", "s", builds.again, 7
    ),
    "build-changed": Measure("build: the same, one source file before three steps changed", "s", builds.changed, 5),
    "build-context": Measure(
        f"build: context of {CONTEXT_FILES:,} files, the second time", "s", builds.context_again, 5
    ),
    "build-again-walk": Measure(
        "build: nothing changed, as a multiple of the client's walk alone", "×", builds.again_beside_walk, 7
    ),
    "build-context-walk": Measure(
        f"build: {CONTEXT_FILES:,} files, as a multiple of the client's walk alone", "×", builds.context_beside_walk, 5
    ),
    "build-stages": Measure(
        f"build: two stages of {' and '.join(map(str, STAGES_S))} s that do not need each other, three steps after",
        "s",
        builds.stages,
        3,
    ),
    "build-commit": Measure("build: from the end of a 500 MB step to a container's", "s", builds.commit_and_run, 3),
    "classic-cold": Measure(f"classic builder: {STEPS} small `RUN` steps, nothing cached", "s", builds.classic_cold, 3),
    "classic-again": Measure("classic builder: the application, nothing changed", "s", builds.classic_again, 3),
    "classic-changed": Measure("classic builder: one source file changed", "s", builds.classic_changed, 3),
    "rest": Measure(
        f"a processor's share of daemons at rest, {many_containers.IDLE} idle containers", "%", many_containers.rest, 1
    ),
    "memory-container": Measure("memory per idle container (PSS)", "MB", memory_per_container, 1),
    "memory-daemons": Measure("daemons, just started (RSS)", "MB", memory_of_daemons, 1),
    "memory-daemons-shared": Measure("daemons, just started (PSS)", "MB", own_memory_of_daemons, 1),
    "memory-daemons-builder": Measure("of that the builder (PSS)", "MB", builds.memory_of_builder, 1),
    # Last, with nothing running any more: what an engine comes to rest at once it has done some work.
    "memory-after": Measure("daemons at rest after all of this (RSS)", "MB", memory_of_daemons, 1),
    "memory-after-shared": Measure("daemons at rest after all of this (PSS)", "MB", own_memory_of_daemons, 1),
    "memory-after-builder": Measure("of that the builder (PSS)", "MB", builds.memory_of_builder, 1),
}
