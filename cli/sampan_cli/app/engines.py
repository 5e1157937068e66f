"""Which engine a command line is about: that of a host, of a context, or of the roots."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from sampan.errors import SampanError
from sampan_cli.app.session import CommandError, Session

_DEFAULT: Final = "default"


def choose(
    session: Session, *, host: str, context: str, managing: bool, environ: Mapping[str, str] = os.environ
) -> None:
    """Lead a session to the engine that is asked for.

    A host comes first, then a context: the one that is named, that of ``$DOCKER_CONTEXT``, or the one in use, unless a
    run root is given. ``managing``: the command is about contexts, and works where one leads nowhere.

    Raises:
        CommandError: both are asked for, or the engine is none that can be reached from here.
    """
    session.default = session.layout
    named = ""
    if host and context:
        raise CommandError("conflicting options: either specify --host or --context, not both")
    try:
        if host:
            from sampan_cli.credentials.contexts import run_root_of

            session.layout = replace(session.layout, run_root=run_root_of(host))
            return
        named = context or environ.get("DOCKER_CONTEXT", "")
        session.context = named or _in_use(session, environ) or _DEFAULT
        if session.context != _DEFAULT:
            from sampan_cli.credentials.contexts import ContextStore

            chosen = ContextStore(_directory(environ)).get(session.context)
            session.layout = chosen.layout(session.layout.data_root)
    except SampanError as error:
        if not managing:
            in_use = not host and not named
            hint = " (`sampan context use default` leads back to the engine of the roots)" if in_use else ""
            raise CommandError(f"{error}{hint}") from error


def _in_use(session: Session, environ: Mapping[str, str]) -> str:
    """Return the context in use; none where a run root says which engine it is."""
    if environ.get("SAMPAN_RUN_ROOT") or session.layout != Session.from_environment(environ).layout:
        return ""
    try:
        settings = json.loads((_directory(environ) / "config.json").read_bytes())
    except (OSError, ValueError):  # who needs something else of it says what is wrong
        return ""
    return str(settings.get("currentContext") or "") if isinstance(settings, dict) else ""


def _directory(environ: Mapping[str, str]) -> Path:
    directory = environ.get("DOCKER_CONFIG")
    return Path(directory) if directory else Path.home() / ".docker"
