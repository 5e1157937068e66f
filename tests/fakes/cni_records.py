"""Records of pods' networks, in memory: what an earlier process has recorded is there for the next one."""

from crid.cni.model import Attachment
from crid.cni.records import decode, encode


class InMemoryAttachmentRecords:
    """``crid.cni.records.AttachmentRecords``. What it keeps is text, as a database does."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}
        self.kept_ranges: tuple[str, ...] = ()

    async def attachments(self) -> tuple[list[Attachment], dict[str, str]]:
        found: list[Attachment] = []
        unreadable: dict[str, str] = {}
        for sandbox, text in self.rows.items():
            try:
                found.append(decode(sandbox, text))
            except ValueError as error:
                unreadable[sandbox] = str(error)
        return found, unreadable

    async def put(self, attachment: Attachment) -> None:
        self.rows[attachment.sandbox] = encode(attachment)

    async def drop(self, sandbox: str) -> None:
        self.rows.pop(sandbox, None)

    async def ranges(self) -> tuple[str, ...]:
        return self.kept_ranges

    async def set_ranges(self, ranges: tuple[str, ...]) -> None:
        self.kept_ranges = ranges
