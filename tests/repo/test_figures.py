"""Limits that the architecture gives are those of the code: whoever changes one is told which sentence has it.

Each row is a piece of a sentence, made of the constant that it speaks of. What a machine takes for something is no
row: that is measured, and stands in ``docs/performance.md``.
"""

from pathlib import Path
from typing import Final

import pytest

from buildd.build import frontends, updates
from buildd.cache.bounds import Bounds
from buildd.cache.collector import policy
from buildd.configuration import Config as BuilderConfig
from buildd.history import history
from buildd.sources import held
from crid.cni import networks as pod_networks
from crid.cni import process as plugin
from crid.containers import events as pod_events
from crid.streaming import inlet
from dockerapi.http import connection as http_connection
from dockerapi.http import decode
from dockerapi.listen import sockets, tls
from dockerapi.system import joined_metrics
from imaged.archive import files
from imaged.gc import collector as imaged_collector
from imaged.images import store as imaged_store
from imaged.main import ImagedConfig
from imaged.push import blobs
from imaged.registry import client, errors, pace
from imaged.transfer import blob_fetch
from runtimed import events
from runtimed.archives import worker as archives_worker
from runtimed.conmon import stdio
from runtimed.execs import prepared
from runtimed.logs import keeping, records, shipping, spool, writer
from runtimed.stats import container_labels
from runtimed.wire import handing
from sampan import limits, pattern
from sampan.client import services as clients
from sampan.engine import listing
from sampan.metrics import exposition
from sampan.oci.manifest import MAX_CONFIG_BYTES
from sampan.service import rest
from sampan.store import database, reserve
from sampan.sys import closed
from sampan.tar.entry import MAX_NAME_BYTES
from sampan.wire import channel, pages
from sampan.wire.http2 import connection
from sampan_cli.warm import parent as warm_parent
from snapshotter.diff import settle
from snapshotter.drivers.erofs import layout
from snapshotter.drivers.erofs import writer as erofs_writer
from snapshotter.gc import collector as snapshotter_collector
from snapshotter.layers import apply
from snapshotter.layers import limits as layer_limits
from snapshotter.main import Config as SnapshotterConfig
from snapshotter.snapshots import frozen

TEXT: Final = " ".join((Path(__file__).parents[2] / "docs/architecture.md").read_text().split())

_WORDS: Final = dict(enumerate(("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")))
IMAGED: Final = ImagedConfig()
SNAPSHOTTER: Final = SnapshotterConfig()
_HOUR_NS: Final = 3600 * 10**9
_GB: Final = 10**9
_DAY_NS: Final = 24 * _HOUR_NS


def word(number: float) -> str:
    """Return a small number as prose has it."""
    return _WORDS.get(int(number), str(int(number))) if number == int(number) else str(number)


def size(count: int) -> str:
    """Return a power of two, or a few of them, as prose has it."""
    for bits, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count % (1 << bits) == 0:
            return f"{count >> bits} {unit}"
    return f"{count} bytes"


def fraction(share: float) -> str:
    """Return what a share is called."""
    return {0.01: "a hundredth", 0.1: "a tenth"}[share]


# Of a disk so large that the most counts, and of a small one.
LARGE: Final = policy(Bounds(), 10_000 * _GB)
SMALL: Final = policy(Bounds(), 100 * _GB)

ROWS: Final = (
    # services
    f"asked them for anything for {word(rest.REST_AFTER_S)} seconds",
    f"The last {events.KEPT} events are kept",
    f"`lease_s` ({word(IMAGED.lease_s / 60)} minutes)",
    f"umask is 0{closed.UMASK:02o}",
    f"{word(exposition._MOST_AT_ONCE).capitalize()} scrapes are answered at a time",
    f"reads nothing for {word(exposition._PATIENCE_S)} seconds is given up",
    f"services are asked at the same time, {word(joined_metrics._DEADLINE_S)} seconds each",
    f"disconnects after {word(clients._BUILDER_IDLE_S)} seconds without a call",
    f"ends when nobody has come for {'a minute' if warm_parent.IDLE_S == 60 else warm_parent.IDLE_S}",
    f"A ticket that nobody brings within {'a second' if handing._CLAIM_S == 1 else handing._CLAIM_S}",
    f"does not read even then is cut off after {word(stdio._LAST_OUTPUT_S)} seconds",
    # clients from elsewhere
    f"was silent for {'a fifth' if http_connection._REST_S == 1 / 5 else http_connection._REST_S} of a second",
    f"{tls.MAX_HANDSHAKES} handshakes may be under way, for {word(tls.HANDSHAKE_S)} seconds each",
    f"asks after idle clients every {'half minute' if sockets._KEEPALIVE[0][1] == 30 else sockets._KEEPALIVE}",
    # what strangers send
    f"more than {MAX_NAME_BYTES:,} bytes can be in a container or a volume",
    f"a compiled pattern may take {size(pattern._MAX_COMPILED_BYTES)},",
    f"all patterns of one call {size(pattern._MAX_LENGTH)} of text",
    f"{decode._MAX_DEPTH} levels and {decode._MAX_VALUES:,} values are the most",
    f"at most {container_labels._MAX_PER_CONTAINER} labels of a container",
    f"{container_labels._MAX_LENGTH} characters of a name or value, and {size(container_labels._MAX_IN_ALL)} in all",
    f"labels of an image, network or volume {size(limits.LABELS_BYTES)}, of a container twice that",
    f"command and environment {size(limits.PROCESS_BYTES)}",
    f"a container's record {size(limits.RECORD_BYTES)}",
    f"an image {imaged_store.MAX_NAMES:,} names",
    # lists
    f"a message between services has {size(channel._MAX_MESSAGE_BYTES)} at most",
    f"as soon as it holds {size(pages.PAGE_BYTES)}",
    f"up to {size(listing.KEPT_BYTES)} of the list",
    # pull, push, load, commit
    f"A blob of more than {size(blob_fetch.PART_BYTES)} comes in parts",
    f"over up to {word(IMAGED.connections_per_blob)} connections",
    f"after `resume_s` ({'a day' if IMAGED.resume_s * 10**9 == _DAY_NS else IMAGED.resume_s})",
    f"if that is more than {'a minute' if errors.MAX_RETRY_AFTER_S == 60 else errors.MAX_RETRY_AFTER_S}",
    f"less than {size(pace.MIN_BYTES_PER_S)}/s",
    f"documents ({size(client.MAX_MANIFEST_BYTES)},",
    f"configs ({size(MAX_CONFIG_BYTES)})",
    f"then {word(IMAGED.parallel_uploads)} at a time",
    f"Up to {size(blobs.PIECE_BYTES)} go in one request",
    f"files of up to {size(files._SMALL_BYTES)} in memory",
    f"Up to {settle._MOST_SYNCED} files are synced one by one",
    f"What a key became is kept for {'an hour' if frozen.HOLD_NS == _HOUR_NS else frozen.HOLD_NS}",
    f"ends {'twenty' if archives_worker._IDLE_S == 20 else archives_worker._IDLE_S} seconds after the last one",
    f"So what takes {size(BuilderConfig().defer_bytes)} (`defer_bytes` of buildd)",
    # layers on disk
    f"regions of {erofs_writer._REGION // layout.BLOCK} blocks",
    f"A layer may have {word(SNAPSHOTTER.max_layer_entries / 1_000_000)} million entries",
    f"uncompressed {size(layer_limits._FREE_BYTES)} or {SNAPSHOTTER.max_layer_ratio} times its blob's size",
    f"and never more than {size(SNAPSHOTTER.max_layer_bytes)}",
    # garbage collection
    f"every {word(IMAGED.gc_interval_s / 60)} minutes",
    f"every {word(SNAPSHOTTER.gc_interval_s / 60)} minutes",
    f"all blobs {imaged_collector._LOOK} at a time",
    f"removes what nothing keeps {imaged_collector._REMOVE} at a time",
    f"top down, {snapshotter_collector._BATCH} rows at a time",
    f"kept by its hold, for {'an hour' if apply.HOLD_NS == _HOUR_NS else apply.HOLD_NS} at most",
    # builds
    f"logs are clipped at {size(updates._MAX_LOG_BYTES)} a step",
    f"the last {history._MOST_BUILDS} builds, {size(history._MOST_BYTES)} of them at most",
    f"at most {frontends._MAX_RUNNING} run for a build at a time",
    f"unused for {word(LARGE[0].keep_duration_ns / _DAY_NS)} days beyond"
    f" {'half a gigabyte' if LARGE[0].max_used_bytes == _GB // 2 else LARGE[0].max_used_bytes}",
    f"then what was unused for {LARGE[1].keep_duration_ns // _DAY_NS} days",
    f"until {fraction(SMALL[2].reserved_bytes / (100 * _GB))} of the disk",
    f"({LARGE[2].reserved_bytes // _GB} GB at most)",
    f"below {word(SMALL[2].max_used_bytes / (10 * _GB))} tenths ({LARGE[2].max_used_bytes // _GB} GB)",
    f"a {'fifth' if SMALL[2].min_free_bytes * 5 == 100 * _GB else SMALL[2].min_free_bytes} of the disk free",
    f"held by its lease for the build and {word(held._HELD_S / 60)} minutes more",
    f"after {connection._DEAD_S:.0f} seconds of silence",
    # pods
    f"pipes that are read as far as {size(plugin._MAX_OUTPUT_BYTES)}",
    f"({pod_networks._FIRST_WAIT_S:.0f} s to "
    f"{'a minute' if pod_networks._LONGEST_WAIT_S == 60 else pod_networks._LONGEST_WAIT_S}, and when",
    f"an earlier one has left at work {word(plugin._GRACE_S)} seconds",
    f"a listener that leaves {'a thousand' if pod_events._BACKLOG == 1000 else pod_events._BACKLOG} unread",
    f"input that a process does not read ({size(inlet.LIMIT_BYTES)})",
    # execs and logs
    f"that does not come within {word(prepared.HELD_S)} seconds",
    f"ended {'half a minute' if keeping._IDLE_S == 30 else keeping._IDLE_S} after the last",
    f"a look at a spool takes up to {size(spool._READ_BYTES)}",
    f"looked at {'twenty' if writer._PAUSE_S == 1 / 20 else writer._PAUSE_S} times a second",
    f"a line of more than {size(records.CHUNK_BYTES)} is cut",
    f"one batch ({size(shipping._BATCH_BYTES)}) may come twice",
    f"When {size(writer.HIGH_BYTES)} of it wait",
    f"it goes on at {size(writer.LOW_BYTES)}",
    # state
    f"Each database keeps {size(reserve.RESERVE_BYTES)} in reserve",
    f"is opened with less than {size(reserve.RESERVE_BYTES)} free",
    f"{fraction(database._COPYING_SHARE)} of the time may go into it",
)


@pytest.mark.parametrize("row", ROWS)
def test_a_limit_is_described_as_it_is(row: str) -> None:
    assert row in TEXT, "docs/architecture.md says otherwise: change the sentence with the limit"
