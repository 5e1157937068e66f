"""Which engine a command line is about: that of a host, of a context, or of the roots."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.errors import SampanError
from sampan.layout import Layout
from sampan.services import LISTENER
from sampan_cli.app.session import CommandError, Session
from sampan_cli.remote.hosts import TlsFlags

if TYPE_CHECKING:
    from sampan_cli.remote.hosts import Host

_DEFAULT: Final = "default"
_NOTHING_SAID: Final = TlsFlags()


def choose(
    session: Session,
    *,
    host: str,
    tls: TlsFlags = _NOTHING_SAID,
    context: str,
    managing: bool,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Lead a session to the engine that is asked for.

    A host comes first, then a context: the one that is named, the host of ``$SAMPAN_HOST``, the context of
    ``$DOCKER_CONTEXT``, or the one in use, unless a run root is given. ``managing``: the command is about contexts, and
    works where one leads nowhere.

    Raises:
        CommandError: both are asked for, or the engine is none that can be reached from here.
    """
    session.default = session.layout
    named = ""
    if host and context:
        raise CommandError("conflicting options: either specify --host or --context, not both")
    try:
        if not (host or context or _says_roots(session, environ)):
            host = environ.get("SAMPAN_HOST", "")
        if host:
            _lead_to_host(session, host, tls, environ)
            return
        if tls.given:
            raise CommandError("the flags of TLS are for a host: --host tcp://HOST:PORT")
        named = context or environ.get("DOCKER_CONTEXT", "")
        session.context = named or _in_use(session, environ) or _DEFAULT
        if session.context != _DEFAULT:
            from sampan_cli.credentials.contexts import ContextStore

            store = ContextStore(_directory(environ))
            chosen = store.get(session.context)
            _lead(session, store.reached(chosen), chosen.data_root)
    except SampanError as error:
        if not managing:
            in_use = not host and not named
            hint = " (`sampan context use default` leads back to the engine of the roots)" if in_use else ""
            raise CommandError(f"{error}{hint}") from error


def _lead_to_host(session: Session, text: str, tls: TlsFlags, environ: Mapping[str, str]) -> None:
    from sampan_cli.remote.hosts import TcpHost, parse_host

    material = tls.material(environ, _directory(environ)) if text.startswith("tcp:") or tls.given else None
    found = parse_host(text, material)
    if tls.given and not isinstance(found, TcpHost):
        raise CommandError(f"the flags of TLS are for tcp:// hosts, and {found} is none")
    _lead(session, found)


def _lead(session: Session, host: "Host", data_root: str = "") -> None:
    """Lead to the sockets beside a Docker API's socket of this machine, or to where that address alone leads."""
    from sampan_cli.remote.hosts import UnixHost

    if not isinstance(host, UnixHost):
        session.elsewhere = host
        return
    roots = Layout(Path(data_root) if data_root else session.layout.data_root, host.path.parent)
    if host.path != roots.docker_socket or (host.path.exists() and not roots.socket(LISTENER).exists()):
        session.elsewhere = host
    else:
        session.layout = roots


def _says_roots(session: Session, environ: Mapping[str, str]) -> bool:
    """Whether a run root says which engine it is."""
    return bool(environ.get("SAMPAN_RUN_ROOT")) or session.layout != Session.from_environment(environ).layout


def _in_use(session: Session, environ: Mapping[str, str]) -> str:
    """Return the context in use; none where a run root says which engine it is."""
    if _says_roots(session, environ):
        return ""
    try:
        settings = json.loads((_directory(environ) / "config.json").read_bytes())
    except (OSError, ValueError):  # who needs something else of it says what is wrong
        return ""
    return str(settings.get("currentContext") or "") if isinstance(settings, dict) else ""


def _directory(environ: Mapping[str, str]) -> Path:
    directory = environ.get("DOCKER_CONFIG")
    return Path(directory) if directory else Path.home() / ".docker"
