"""Write docs/configuration.md from the options of the services, so that it says what there is.

python tools/config_reference.py            # write
python tools/config_reference.py --check    # exit 1 if the file says something else
"""

import dataclasses
import importlib
import json
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sampan import services
from sampan.service.config import ServiceConfig

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "configuration.md"

_HEAD = """# Configuration

Written by `tools/config_reference.py` from the services' own options; `make check` holds it current.

Every service reads, each outweighing the one before it:

1. its defaults;
2. `/etc/sampan/<service>.toml`, or the file of that name in `$SAMPAN_CONFIG_DIR` (`sampan up --config-dir`);
3. the environment: `SAMPAN_<KEY>` for all services, `SAMPAN_<SERVICE>_<KEY>` for one, in capitals;
4. flags: `--<key>`, with dashes. `python -m <service> --help` lists them.

`sampan system import-config /etc/docker/daemon.json` shows such files for a dockerd's configuration, and names what
of it has no equivalent.

An unknown key, or a `.toml` that is no service's, is an error that names the nearest known one; a service that cannot
read its configuration does not start. Lists are separated by commas in the environment and in flags. Tables can be
written in the file alone. A change takes effect when the service starts again; containers go on meanwhile. SIGHUP to
the engine (`systemctl reload`) has the services read their files again, and these are taken from them at once: the
engine's certificates; registries, mirrors, `insecure_networks`, certificates of registries and how many transfers go on
at a time; what containers get that do not say otherwise, `default_network_opts`, `labels`, `live_restore` and
`shutdown_timeout_s`. The audit log is opened anew. A file that cannot be read leaves everything as it was.

"""

_MIRRORS = """## Mirrors and registries of your own

`/etc/sampan/imaged.toml`:

```toml
[[registries]]
host = "docker.io"                       # names without a registry are docker.io's

[[registries.mirrors]]                   # asked first, in this order; the registry itself last
url = "https://mirror.example"

[[registries.mirrors]]
url = "http://10.0.0.5:5000/cache"       # plain http, because it says so; a path before /v2/ is possible

[[registries]]
host = "registry.example:5000"           # a registry with a certificate of your own authority
ca_file = "/etc/ssl/our-ca.pem"

[[registries.mirrors]]                   # any registry can have mirrors
url = "https://cache.example/registry"
username = "reader"
password = "secret"
```

A mirror that does not answer, or does not have the image, is passed over; what it serves is verified by digest like
everything else. Loopback registries need no entry. Certificates are found in `certs_dirs`, too, as Docker has them:
`<host>/ca.crt`.

"""

_REMOTE = """## Clients from elsewhere

`sampan system certs --host engine.example --client alice` makes an authority, a certificate for the engine and one for
a client, and says what belongs into `/etc/sampan/dockerapi.toml`:

```toml
listen = ["tcp://0.0.0.0:2376", "unix:///var/run/docker.sock"]   # beside the engine's own socket
tls_cert = "/etc/sampan/tls/server-cert.pem"
tls_key = "/etc/sampan/tls/server-key.pem"
tls_ca = "/etc/sampan/tls/ca.pem"
tls_crl = "/etc/sampan/tls/crl.pem"
```

Who may use the Docker API is root on the machine. So TCP off loopback is refused without client certificates, unless
`allow_unauthenticated_tcp = true` says that it is wanted. A certificate that is made anew, or a longer list of revoked
ones, counts from the next connection on, and leaves those that are there alone, of which idle ones end after 75
seconds; a file half written leaves what was there, and the log says so. `fd://` means the sockets that a systemd unit
has opened for the engine, `fd://NAME` the one with that `FileDescriptorName=`.

Not everybody who needs the API needs all of it. What a further socket's clients may do is said beside it:

```toml
[[sockets]]                                # for Traefik, or a dashboard
listen = ["unix:///run/sampan/looking.sock"]
group = "monitoring"
read_only = true

[[sockets]]                                # for a team: its own containers, and nothing of the host but one directory
listen = ["unix:///run/sampan/team.sock"]
no_host = true
binds = ["/srv/team"]
only_label = "team=blue"

[[sockets]]                                # for who restarts things
listen = ["tcp://0.0.0.0:2377"]
operations = ["container.restart", "*.list", "*.inspect", "system.ping", "system.version"]
```

Every limit narrows what the others leave. What cannot be judged is refused: unknown requests, builds and BuildKit's
connections with `no_host`. Such limits keep programs and people in whom one does not trust with the machine; whoever
may see containers sees their variables.

`audit = "file"` (or `"syslog"`, `"journald"`) puts on record what comes by the Docker API and by gRPC: who (uid and
pid, or the certificate), what, on which object, and what came of it, as a line of JSON, without the values of variables
and secrets. In a command, an option or a label a secret is what is named like one (`--password x`, `X-Token: x`,
`NAME=x`, `mysqladmin -px`) or stands in an address; one that is just a word among others cannot be told. While the log
cannot be written, because its disk is full perhaps, requests that would have to be on record are refused;
`audit_on_failure = "continue"` lets them pass, and `sampan status` tells in both cases. What the `sampan` command does
is in it too: with an audit log it reaches the services by way of dockerapi alone. Only root can still ask
them at their own sockets, which is on no record.

`authorization_plugins = ["door"]` has plugins of Docker's protocol asked about each request and its answer. What comes
by gRPC, from `sampan` and from buildx, they are asked about call by call: `POST /grpc/<package>.<Service>/<Method>`,
without a body and without its answer. With plugins, too, the services are reached by way of dockerapi alone.

"""

_WHAT = {
    "imaged": "images: content, names, registries",
    "snapshotter": "layers and snapshots",
    "runtimed": "containers, networks, volumes",
    "buildd": "builds of images",
    "dockerapi": "the Docker Engine API",
    "registryd": "the registry that `sampan registry serve` runs; its flags are passed on",
    "crid": "pods, for kubelet and crictl: the Container Runtime Interface",
}


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD, "## Every service\n\n", *_table(ServiceConfig, ""), "\n", _REMOTE, _MIRRORS]
    common = {f.name for f in dataclasses.fields(ServiceConfig)}
    if unsaid := set(services.ALL) - _WHAT.keys():
        raise SystemExit(f"{Path(__file__).relative_to(ROOT)}: say in _WHAT what this is: {', '.join(sorted(unsaid))}")
    for name in services.ALL:
        kind = _config_class(name)
        parts.append(f"## {name}\n\n`{name}.toml`: {_WHAT[name]}.\n\n")
        parts += list(_table(kind, "", common)) or ["Nothing beyond what every service can be told.\n"]
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


def _config_class(service: str) -> type[Any]:
    module = importlib.import_module(f"{service}.main")
    kinds = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, ServiceConfig)]
    kind: type[Any] = max(kinds, key=lambda each: len(each.__mro__))  # the others are what it is made from
    return kind


def _table(kind: type[Any], prefix: str, without: typing.Container[str] = ()) -> Iterator[str]:
    """Yield the rows of one table of options, and the tables below it."""
    fields = [f for f in dataclasses.fields(kind) if f.name not in without]
    if not fields:
        return
    yield "| key | default | |\n|---|---|---|\n"
    hints = typing.get_type_hints(kind)
    below: list[tuple[str, type[Any]]] = []
    for f in fields:
        if "tables" in f.metadata:
            (item, *_) = typing.get_args(hints[f.name])
            below.append((prefix + f.name, item))
            yield f"| `[[{prefix}{f.name}]]` | none | {f.metadata['tables']} |\n"
        else:
            yield f"| `{f.name}` | {_default(f)} | {f.metadata['help']} |\n"
    for path, item in below:
        yield f"\nKeys of `[[{path}]]`:\n\n"
        yield from _table(item, f"{path}.")


def _default(f: "dataclasses.Field[Any]") -> str:
    if f.default is dataclasses.MISSING:
        return "required"
    if f.name.endswith("_host"):
        return "Docker's"
    value = str(f.default) if isinstance(f.default, Path) else f.default
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def main(arguments: list[str]) -> int:
    """Write, or check."""
    text = page()
    if arguments == ["--check"]:
        if not TARGET.exists() or TARGET.read_text() != text:
            print(f"{TARGET.relative_to(ROOT)} is not what the options say: run tools/config_reference.py")
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
