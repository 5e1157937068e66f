"""``sampan cri serve``: Kubernetes' Container Runtime Interface over the engine."""

from dataclasses import asdict, dataclass

import click

from sampan.errors import SampanError
from sampan.layout import Layout
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError, Session
from sampan_cli.options.flags import from_flags
from sampan_cli.supervisor.foreground import become, command_line

_FILE = click.Path(exists=True, dir_okay=False, resolve_path=True)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The command line of ``sampan cri serve``: what it does not say is left to the service's configuration."""

    cni_conf_dir: str | None
    cni_bin_dirs: tuple[str, ...]
    runtime_handlers: tuple[str, ...]
    stream_listen: str | None
    stream_tls_cert: str | None
    stream_tls_key: str | None
    log_level: str | None

    def arguments(self, layout: Layout) -> list[str]:
        """Return the service's command line."""
        return command_line("crid", layout, asdict(self))


@sampan_command(
    "serve",
    examples="""
    sampan cri serve
    crictl --runtime-endpoint unix:///run/sampan/crid.sock info
    kubelet --container-runtime-endpoint unix:///run/sampan/crid.sock ...
    """,
)
@click.option("--cni-conf-dir", metavar="DIR", help="Where pods' network is configured. [default: /etc/cni/net.d]")
@click.option(
    "--cni-bin-dir", "cni_bin_dirs", multiple=True, metavar="DIR",
    help="Where CNI plugins are. [default: /opt/cni/bin, /usr/lib/cni]",
)  # fmt: skip
@click.option(
    "--runtime-handler", "runtime_handlers", multiple=True, metavar="NAME=RUNTIME",
    help="A further name of an OCI runtime, for a RuntimeClass; each runtime has its own name anyway.",
)  # fmt: skip
@click.option(
    "--stream-listen", metavar="HOST:PORT",
    help="Where sessions of exec, attach and port-forward are served. [default: 127.0.0.1, any port]",
)  # fmt: skip
@click.option("--stream-tls-cert", type=_FILE, help="Serve sessions over TLS with this certificate chain (PEM).")
@click.option("--stream-tls-key", type=_FILE, help="The certificate's key (PEM).")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="debug shows each request.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Serve Kubernetes' Container Runtime Interface, in the foreground, until Ctrl-C or SIGTERM.

    kubelet and crictl reach it at the engine's crid.sock. Pods run on while it does not, and docker's users are not
    shown their containers. `sampan up --cri` has the engine keep it.
    """
    layout = session.here("cri serve")
    try:
        layout.check()
        arguments = from_flags(ServeOptions, flags).arguments(layout)
    except SampanError as error:
        raise CommandError(str(error)) from error
    become("crid", layout, arguments, "Container Runtime Interface")
