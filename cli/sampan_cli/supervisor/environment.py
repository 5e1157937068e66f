"""What an engine's processes run with: all that ``sampan up`` needs of what starts them, and so kept apart from it."""

from typing import Final

# What every service runs with. The supervisor is started with it, too: a service that is forked takes it from there.
ENVIRONMENT: Final = {
    # glibc gives every thread an arena of its own and never returns it; two are enough and save tens of megabytes.
    "MALLOC_ARENA_MAX": "2",
    # gRPC's fork handlers cost every fork, and a service starts programs, it never forks itself.
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    "PYTHONUNBUFFERED": "1",
    # Neither root's own packages nor the directory in which someone typed `sampan up` are part of the engine.
    "PYTHONNOUSERSITE": "1",
    "PYTHONSAFEPATH": "1",
}
