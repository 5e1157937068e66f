"""All services' ``/metrics`` as one, and where each of them is, for Prometheus' HTTP service discovery.

Both are pages of this service's own metrics address. Families are joined by name, since a name may be described once,
and every sample gets the label ``service``, which targets of their own would have from Prometheus.
"""

import http.client
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Final

from sampan.json_types import JsonObject
from sampan.layout import Layout
from sampan.metrics.exposition import METRICS_TYPE, Page
from sampan.services import ALL, STARTED

_DEADLINE_S: Final = 5.0  # of each service, within Prometheus' usual ten
_MOST_BYTES: Final = 64 << 20

METRICS_PATH: Final = "/engine/metrics"
TARGETS_PATH: Final = "/engine/targets"


def pages(layout: Layout, own: str) -> Mapping[str, Page]:
    """Return the pages of the service ``own``, by path."""
    return {
        METRICS_PATH: Page(METRICS_TYPE, lambda mine: joined(layout, own, mine)),
        TARGETS_PATH: Page("application/json", lambda _: [json.dumps(targets(layout)).encode()]),
    }


def targets(layout: Layout) -> list[dict[str, object]]:
    """Return what Prometheus' ``http_sd_configs`` read: a target for each service that runs and serves metrics."""
    return [{"targets": [address], "labels": {"service": name}} for name, address in sorted(addresses(layout).items())]


def addresses(layout: Layout) -> dict[str, str]:
    """Return host:port of each service that runs and says where it is scraped; blocks."""
    found = {}
    for name, facts in _facts(layout):
        if (address := str(facts.get("metrics") or "")) and not facts.get("waits"):
            found[name] = address
    return found


def waiting(layout: Layout) -> set[str]:
    """Return the services that do not run and are started when they are asked, as they would be by a scrape; blocks."""
    return {name for name, facts in _facts(layout) if facts.get("waits")}


def _facts(layout: Layout) -> Iterator[tuple[str, JsonObject]]:
    for name in ALL:
        try:
            facts: JsonObject = json.loads(layout.state_file(name).read_text())
        except (OSError, ValueError):  # it does not run
            continue
        yield name, facts


def joined(layout: Layout, own: str, mine: Callable[[], Iterable[bytes]]) -> Iterator[bytes]:
    """Yield the exposition of the whole engine; ``mine`` makes that of the service ``own``, which asks the others.

    A service that does not answer in time is left out, and ``sampan_service_up`` says so. One that waits until it is
    asked is left alone, and is up.
    """
    found = addresses(layout)
    others = {name: address for name, address in found.items() if name != own}
    with ThreadPoolExecutor(max(1, len(others)), thread_name_prefix="joined metrics") as threads:
        asked = {name: threads.submit(_fetch, address) for name, address in others.items()}
        texts = {own: b"".join(mine()).decode(errors="replace")}
        texts |= {name: text for name, answer in asked.items() if (text := _result(answer))}
    told = texts.keys() | waiting(layout)
    expected = [name for name in ALL if name in STARTED or name in found]
    yield b"# HELP sampan_service_up 1 if the service has told its metrics, or is started when it is asked.\n"
    yield b"# TYPE sampan_service_up gauge\n"
    yield "".join(f'sampan_service_up{{service="{name}"}} {int(name in told)}\n' for name in expected).encode()
    yield from join(texts)


def join(texts: Mapping[str, str]) -> Iterator[bytes]:
    """Yield one exposition made of those of several services."""
    families: dict[str, list[str]] = {}
    for service, text in texts.items():
        label = f'service="{service}"'
        lines: list[str] = []
        for line in text.split("\n"):  # and at nothing else that is a line's end elsewhere: labels have it as it is
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                described = name in families
                lines = families.setdefault(name, [])
                if not described:
                    lines.append(line)
            elif line.startswith("#"):
                if len(lines) == 1:  # the type, which follows its name's first description
                    lines.append(line)
            elif line:
                lines.append(_labelled(line, label))
    for lines in families.values():
        yield ("\n".join(lines) + "\n").encode()


def _labelled(line: str, label: str) -> str:
    name, space, value = line.partition(" ")
    brace = name.find("{")
    if brace >= 0:
        return f"{line[: brace + 1]}{label},{line[brace + 1 :]}"
    return f"{name}{{{label}}}{space}{value}"


def _fetch(address: str) -> str:
    host, _, port = address.rpartition(":")
    with closing(http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_DEADLINE_S)) as connection:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.read(_MOST_BYTES).decode(errors="replace") if answer.status == 200 else ""


def _result(answer: "Future[str]") -> str:
    try:
        return answer.result(_DEADLINE_S * 2)
    except (OSError, http.client.HTTPException, TimeoutError):
        return ""
