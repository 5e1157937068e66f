"""Findings between the wire and ``sampan.check``."""

from sampan.api.check.v1 import check_pb2 as pb
from sampan.api.containerd.types import types_pb2
from sampan.check import Amount, Finding, Login, Means, Outcome, Step
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest


def step_to_proto(step: Step) -> pb.CheckProgress:
    """Encode a step of a check."""
    if isinstance(step, Finding):
        return pb.CheckProgress(finding=finding_to_proto(step))
    return pb.CheckProgress(
        amount=pb.CheckProgress.Amount(
            what=step.what,
            done=step.done,
            total=step.total,
            done_bytes=step.done_bytes,
            total_bytes=step.total_bytes,
        )
    )


def step_from_proto(step: pb.CheckProgress) -> Step:
    """Decode a step of a check."""
    if step.HasField("finding"):
        return finding_from_proto(step.finding)
    amount = step.amount
    return Amount(amount.what, amount.done, amount.total, amount.done_bytes, amount.total_bytes)


def finding_to_proto(finding: Finding) -> pb.Finding:
    """Encode a finding."""
    return pb.Finding(
        service=finding.service,
        kind=finding.kind,
        subject=finding.subject,
        path=finding.path,
        problem=finding.problem,
        remedy=finding.remedy,
        mendable=finding.mendable,
        affected=finding.affected,
        sources=finding.sources,
    )


def finding_from_proto(finding: pb.Finding) -> Finding:
    """Decode a finding."""
    return Finding(
        kind=finding.kind,
        subject=finding.subject,
        problem=finding.problem,
        remedy=finding.remedy,
        path=finding.path,
        mendable=finding.mendable,
        affected=tuple(finding.affected),
        sources=tuple(finding.sources),
        service=finding.service,
    )


def repair_to_proto(finding: Finding, means: Means) -> pb.RepairRequest:
    """Encode a request to repair something."""
    request = pb.RepairRequest(finding=finding_to_proto(finding))
    for registry, login in means.logins.items():
        request.credentials[registry].CopyFrom(
            pb.Credentials(
                username=login.username,
                password=login.password,
                identity_token=login.identity_token,
                registry_token=login.registry_token,
            )
        )
    if means.blob is not None:
        blob = means.blob
        request.blob.CopyFrom(types_pb2.Descriptor(media_type=blob.media_type, digest=blob.digest, size=blob.size))
    return request


def means_from_proto(request: pb.RepairRequest) -> Means:
    """Decode what a repair may need."""
    logins = {
        registry: Login(one.username, one.password, one.identity_token, one.registry_token)
        for registry, one in request.credentials.items()
    }
    blob = None
    if request.HasField("blob"):
        blob = Descriptor(request.blob.media_type, Digest.parse(request.blob.digest), request.blob.size)
    return Means(logins, blob)


def outcome_to_proto(outcome: Outcome) -> pb.RepairResponse:
    """Encode what became of a repair."""
    return pb.RepairResponse(repaired=outcome.repaired, outcome=outcome.text, restarting=outcome.restarting)


def outcome_from_proto(response: pb.RepairResponse) -> Outcome:
    """Decode what became of a repair."""
    return Outcome(response.repaired, response.outcome, response.restarting)
