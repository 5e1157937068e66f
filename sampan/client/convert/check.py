"""Findings, and what repairs them."""

from typing import Final

from sampan.api.check.v1 import check_pb2 as pb
from sampan.check import Amount, Finding, Login, Means, Outcome, Step
from sampan.client.convert.codec import Codec
from sampan.client.convert.oci import DESCRIPTOR

FINDING: Final = Codec(Finding, pb.Finding)

_AMOUNT: Final = Codec(Amount, pb.CheckProgress.Amount)
_LOGIN: Final = Codec(Login, pb.Credentials)


def step_to_proto(step: Step) -> pb.CheckProgress:
    """Encode a step of a check."""
    if isinstance(step, Finding):
        return pb.CheckProgress(finding=FINDING.encode(step))
    return pb.CheckProgress(amount=_AMOUNT.encode(step))


def step_from_proto(step: pb.CheckProgress) -> Step:
    """Decode a step of a check."""
    return FINDING.decode(step.finding) if step.HasField("finding") else _AMOUNT.decode(step.amount)


def repair_to_proto(finding: Finding, means: Means) -> pb.RepairRequest:
    """Encode a request to repair something."""
    return pb.RepairRequest(
        finding=FINDING.encode(finding),
        credentials={registry: _LOGIN.encode(login) for registry, login in means.logins.items()},
        blob=None if means.blob is None else DESCRIPTOR.encode(means.blob),
    )


def means_from_proto(request: pb.RepairRequest) -> Means:
    """Decode what a repair may need."""
    logins = {registry: _LOGIN.decode(one) for registry, one in request.credentials.items()}
    return Means(logins, DESCRIPTOR.decode(request.blob) if request.HasField("blob") else None)


def outcome_to_proto(outcome: Outcome) -> pb.RepairResponse:
    """Encode what became of a repair."""
    return pb.RepairResponse(repaired=outcome.repaired, outcome=outcome.text, restarting=outcome.restarting)


def outcome_from_proto(response: pb.RepairResponse) -> Outcome:
    """Decode what became of a repair."""
    return Outcome(response.repaired, response.outcome, response.restarting)
