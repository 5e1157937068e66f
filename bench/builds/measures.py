"""Builds, each of which is looked at: an engine that has not built what it was to has no figure."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import processes
from bench.builds import clients, projects
from bench.builds.walk import walking
from bench.engines import Engine
from bench.measure import SETTLE_S, Bench, Unmeasured

# What the command lines of a builder's processes have in them.
BUILDER = "-m buildd"

# Builds a context, or a tar of one, under a name, and returns the seconds.
Build = Callable[[Engine, Path, str], float]


def cold(engine: Engine, bench: Bench) -> float:
    """Small steps of which nothing is cached."""
    return _cold(engine, bench, clients.by_buildkit)


def again(engine: Engine, bench: Bench) -> float:
    """The same application once more: the image is the same."""
    return _again(engine, bench, _application(bench), "application", clients.by_buildkit)


def changed(engine: Engine, bench: Bench) -> float:
    """The application after a change of one source file."""
    return _changed(engine, bench, _application(bench), "application", clients.by_buildkit)


def classic_cold(engine: Engine, bench: Bench) -> float:
    """The small steps by the classic builder."""
    return _cold(engine, bench, _by_packed_context)


def classic_again(engine: Engine, bench: Bench) -> float:
    """The application once more by the classic builder; its context was packed before."""
    return _again(engine, bench, _packed_application(bench), "classic", clients.by_classic_builder)


def classic_changed(engine: Engine, bench: Bench) -> float:
    """The changed application by the classic builder."""
    context = _application(bench)

    def build(engine: Engine, context: Path, tag: str) -> float:
        return clients.by_classic_builder(engine, projects.pack(context, bench.directory / "build-changed.tar"), tag)

    return _changed(engine, bench, context, "classic", build)


def context_again(engine: Engine, bench: Bench) -> float:
    """A context of very many files, which was built before."""
    context = bench.directory / "build-files"
    if not context.exists():
        projects.many_files(context, bench.image)
    took = _again(engine, bench, context, "files", clients.by_buildkit)
    _check(engine, "files", str(projects.CONTEXT_FILES))
    return took


def again_beside_walk(engine: Engine, bench: Bench) -> float:
    """The same application once more, as a multiple of what its client takes to walk the context."""
    return again(engine, bench) / _walk(engine, bench, _application(bench), "source")


def context_beside_walk(engine: Engine, bench: Bench) -> float:
    """The context of very many files, likewise."""
    return context_again(engine, bench) / _walk(engine, bench, bench.directory / "build-files", "data")


def _walk(engine: Engine, bench: Bench, context: Path, *follow: str) -> float:
    """Return the seconds of the same client with a builder that has the context walked, and does nothing else."""
    if engine.api_socket is None:
        raise Unmeasured
    socket = bench.directory / "walk.sock"
    with walking(socket, *follow):
        alone = replace(engine, environment={**engine.environment, "DOCKER_HOST": f"unix://{socket}"})
        return clients.by_buildkit(alone, context, "walked")


def stages(engine: Engine, bench: Bench) -> float:
    """Stages that need not wait for each other."""
    mark = f"stages-{bench.round}"
    tag = f"built:{mark}"
    context = projects.two_stages(bench.directory / "build-stages", bench.image, mark)
    took = clients.by_buildkit(engine, context, tag)
    _check(engine, tag, f"{mark}\n{mark}")
    engine("rmi", "--force", tag)
    return took


def commit_and_run(engine: Engine, bench: Bench) -> float:
    """From the end of a large step's process to that of a first container of the image."""
    mark = f"large-{bench.round}"
    tag = f"built:{mark}"
    context = projects.large_step(bench.directory / "build-large", bench.debian(engine), mark)
    os.sync()
    clients.by_buildkit(engine, context, tag)
    step_ended_ns = int(engine("run", "--rm", "--network=none", tag, "cat", "/out"))
    took = time.time() - step_ended_ns / 1e9
    engine("rmi", "--force", tag)
    return took


def memory_of_builder(engine: Engine, bench: Bench) -> float:  # noqa: ARG001  # a measure takes both
    """What the builder costs the machine, where it is a process of its own."""
    if not _builders(engine):
        raise Unmeasured
    time.sleep(SETTLE_S)
    return float(sum(map(processes.pss_bytes, _builders(engine))))


def _builders(engine: Engine) -> set[int]:
    return {pid for pid, _ in processes.with_argument(BUILDER)} & engine.daemons()


def _cold(engine: Engine, bench: Bench, build: Build) -> float:
    mark = f"cold-{bench.round}"
    tag = f"built:{mark}"
    took = build(engine, projects.small_steps(bench.directory / "build-cold", bench.image, mark), tag)
    _check(engine, tag, projects.small_steps_output(mark))
    engine("rmi", "--force", tag)
    return took


def _again(engine: Engine, bench: Bench, context: Path, tag: str, build: Build) -> float:
    _have(engine, bench, context, tag, build)
    before = _id(engine, tag)
    took = build(engine, context, tag)
    if not before or _id(engine, tag) != before:
        raise RuntimeError(f"{engine.name}: a build without changes came to another image")
    return took


def _changed(engine: Engine, bench: Bench, context: Path, tag: str, build: Build) -> float:
    _have(engine, bench, context, tag, build)
    mark = f"changed in round {bench.round}"
    changed = projects.change_source(context, mark)
    took = build(engine, context, tag)
    _check(engine, tag, projects.application_output(context))
    if engine("run", "--rm", "--network=none", tag, "cat", f"/app/{changed.relative_to(context)}") != mark:
        raise RuntimeError(f"{engine.name}: {tag} has not the changed file")
    return took


def _have(engine: Engine, bench: Bench, context: Path, tag: str, build: Build) -> None:
    """Build it once before anything is measured."""
    if (engine.name, tag) not in bench.given:
        build(engine, context, tag)
        bench.given.add((engine.name, tag))


def _application(bench: Bench) -> Path:
    context = bench.directory / "build-application"
    return context if context.exists() else projects.application(context, bench.image)


def _packed_application(bench: Bench) -> Path:
    packed = bench.directory / "build-application.tar"
    return packed if packed.exists() else projects.pack(_application(bench), packed)


def _by_packed_context(engine: Engine, context: Path, tag: str) -> float:
    return clients.by_classic_builder(engine, projects.pack(context, context.with_suffix(".tar")), tag)


def _check(engine: Engine, image: str, expected: str) -> None:
    """Raise unless the last step of a build has written what it should have read."""
    found = engine("run", "--rm", "--network=none", image, "cat", "/out")
    if found != expected:
        raise RuntimeError(f"{engine.name}: {image} has {found[:200]!r}")


def _id(engine: Engine, image: str) -> str:
    return engine("images", "--quiet", "--no-trunc", image)
