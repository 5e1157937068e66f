"""What every service serves about its own damage: its databases, and whatever it has to check beyond them.

A service whose database is damaged cannot do its work, and says so to whoever asks for it; this it serves all the same,
since it is how one learns what is wrong and has it repaired.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry, Counter, Histogram

from sampan.api.check.v1 import check_pb2 as pb
from sampan.api.check.v1 import check_pb2_grpc as pb_grpc
from sampan.check import Checker, Finding
from sampan.client.convert import check as convert
from sampan.errors import DataLossError, InvalidArgumentError
from sampan.log import log

if TYPE_CHECKING:  # not every service has a database
    from sampan.store.repair import Restored

Context = grpc.aio.ServicerContext[object, object]

_SECONDS = (0.01, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800)


class CheckMetrics:
    """The ``sampan_check_*`` series."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._runs = Counter(
            "sampan_check_runs", "Checks, by outcome: whole, damaged, ended.", ["outcome"], registry=metrics
        )
        self._seconds = Histogram(
            "sampan_check_seconds", "Time that a check took to its end.", registry=metrics, buckets=_SECONDS
        )
        self._findings = Counter("sampan_check_findings", "What checks found, by kind.", ["kind"], registry=metrics)
        self._repairs = Counter(
            "sampan_check_repairs", "Repairs, by kind of finding and result.", ["kind", "result"], registry=metrics
        )
        for outcome in ("whole", "damaged", "ended"):
            self._runs.labels(outcome)

    def ran(self, outcome: str, seconds: float) -> None:
        """Count a check."""
        self._runs.labels(outcome).inc()
        if outcome != "ended":
            self._seconds.observe(seconds)

    def found(self, kind: str) -> None:
        """Count a finding."""
        self._findings.labels(kind).inc()

    def repaired(self, kind: str, result: str) -> None:
        """Count a repair: repaired, failed or restarting."""
        self._repairs.labels(kind, result).inc()


class CheckServicer(pb_grpc.CheckServicer):
    """Decodes, calls, encodes."""

    def __init__(
        self, service: str, checkers: Sequence[Checker], restored: "Sequence[Restored]", metrics: CheckMetrics
    ) -> None:
        self._service = service
        self._checkers = checkers
        self._restored = restored
        self._metrics = metrics

    async def Check(self, request: pb.CheckRequest, context: Context) -> AsyncIterator[pb.CheckProgress]:
        """Check one part after the other."""
        begin, outcome, found = time.monotonic(), "ended", False
        try:
            for checker in self._checkers:
                async with aclosing(checker.check(quick=request.quick)) as steps:
                    async for step in steps:
                        message = convert.step_to_proto(step)
                        if isinstance(step, Finding):
                            found = True
                            self._metrics.found(step.kind)
                            log.error(
                                "damage found",
                                kind=step.kind,
                                subject=step.subject,
                                path=step.path,
                                problem=step.problem,
                            )
                            message.finding.service = self._service
                        yield message
            outcome = "damaged" if found else "whole"
        finally:
            self._metrics.ran(outcome, time.monotonic() - begin)

    async def Repair(self, request: pb.RepairRequest, context: Context) -> pb.RepairResponse:
        """Have the part repair it that knows its kind."""
        finding = convert.FINDING.decode(request.finding)
        checker = next((one for one in self._checkers if finding.kind in one.kinds), None)
        if checker is None:
            raise InvalidArgumentError(f"{self._service} repairs nothing of the kind {finding.kind!r}")
        result = "failed"
        try:
            outcome = await checker.repair(finding, convert.means_from_proto(request))
            result = "repaired" if outcome.repaired else "restarting" if outcome.restarting else "failed"
        finally:
            self._metrics.repaired(finding.kind, result)
        log.info("repair", kind=finding.kind, subject=finding.subject, result=result, outcome=outcome.text)
        return convert.outcome_to_proto(outcome)

    async def Restored(self, request: pb.RestoredRequest, context: Context) -> pb.RestoredResponse:
        """Say what took the place of a damaged database."""
        response = pb.RestoredResponse()
        for restored in self._restored:
            response.outcome = _explain(restored)
            if restored.copied_ns:
                response.copied_at.CopyFrom(Timestamp(seconds=restored.copied_ns // 10**9))
        return response


def _explain(restored: "Restored") -> str:
    aside = f"the damaged one is {restored.aside}"
    match restored.how:
        case "salvaged":
            return f"nothing is lost: all rows could be read; {aside}"
        case "copy":
            at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(restored.copied_ns / 1e9))
            return f"lost: what changed after {at}, when it was copied last; {aside}"
        case _:
            return f"lost: everything that was in it alone, as there was no copy; {aside}"


class DamagedHandler(grpc.GenericRpcHandler):
    """Answers every method that nobody serves with what is wrong."""

    def __init__(self, error: DataLossError) -> None:
        self._error = error

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[object, object] | None":
        """Return a handler for any shape of call."""
        del handler_call_details

        async def refuse(requests: AsyncIterator[bytes], context: Context) -> None:
            del requests, context
            raise self._error

        return grpc.stream_stream_rpc_method_handler(refuse)
