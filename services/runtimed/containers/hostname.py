"""The host name of a container."""

from sampan.resource.container import Container

_HOST = "host"


def hostname_of(container: Container, host: str) -> str:
    """Return its own name, ``host``, the machine's, where it shares network or UTS namespace, or else its short ID."""
    spec = container.spec
    if spec.hostname:
        return spec.hostname
    shared = _HOST in (spec.namespaces.network, spec.namespaces.uts)
    return host if shared else container.short_id
