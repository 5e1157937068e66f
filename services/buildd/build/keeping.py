"""What the history keeps of a build beside its progress: its provenance, its images' documents, its error's details."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from buildd.build.protocol import Graphs
from buildd.exporters.attestations import STATEMENT, statement_annotations
from buildd.exporters.protocol import Attestation, Exported
from buildd.history.model import BuildRecord, KeptBlob
from buildd.provenance.attesting import Asked, Provenance, ReadConfig, capture
from buildd.provenance.options import ProvenanceOptions
from buildd.provenance.predicate import BuildConfig
from sampan.errors import SampanError
from sampan.log import log

_STATUS: Final = "application/vnd.googleapis.google.rpc.status+proto"


@dataclass(slots=True)
class Kept:
    """Filled while a build goes on."""

    encode_failure: Callable[[SampanError], bytes]
    now_ns: Callable[[], int]
    provenance: Provenance = field(default_factory=Provenance)
    read: ReadConfig = lambda _: BuildConfig()
    attesting: ProvenanceOptions | None = None  # what the client wants to have told
    exported: dict[int, Exported] = field(default_factory=dict)  # by the exports' numbers
    failure: bytes = b""

    async def capture(self, asked: Asked, graphs: Graphs) -> Mapping[str, tuple[Attestation, ...]]:
        """Note what a build's outputs came of, and return what their exports are to tell of it.

        Raises:
            IncompleteMaterialsError: the client wants all materials to be known, and they are not.
        """
        source = asked.result.source
        self.provenance = capture(asked, graphs.digest_of, lambda edge: graphs.dump(edge, source))
        self.read = graphs.config
        if self.attesting is None:
            return {}
        return await self.provenance.attest(self.attesting, self.read, self.now_ns())

    def failed(self, error: SampanError) -> None:
        """Note what the build has ended with."""
        self.failure = self.encode_failure(error)

    async def of(self, record: BuildRecord) -> tuple[BuildRecord, Callable[[], Sequence[bytes]]]:
        """Return a record that names everything, and what gives the bytes."""
        blobs = [data for each in self.exported.values() for data in each.documents.values()]
        builder_id = self.attesting.builder_id if self.attesting is not None else ""
        attestations: dict[str, tuple[KeptBlob, ...]] = {}
        try:
            for key, said in (await self.provenance.of_record(builder_id, self.read, self.now_ns())).items():
                attestations[key] = tuple(
                    KeptBlob.of(STATEMENT, each.predicate, statement_annotations(each)) for each in said
                )
                blobs += [each.predicate for each in said]
        except SampanError as error:
            log.warning("a build is kept without its provenance", ref=record.ref, error=str(error))
        failure = KeptBlob.of(_STATUS, self.failure) if self.failure else None
        targets = {number: each.target for number, each in self.exported.items() if each.target is not None}
        results = {
            str(number): KeptBlob(target.media_type, target.digest, target.size) for number, target in targets.items()
        }
        blobs += [self.failure] if self.failure else []
        record = replace(record, failure=failure, results=results, attestations=attestations)
        return record, lambda: blobs
