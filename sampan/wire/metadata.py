"""Names of metadata that services send beside their messages; what each says stands with its method in ``protos/``."""

from typing import Final

ATTACHES_STDIN: Final = "sampan-attaches-stdin"  # of Execs.Start, initial: "1" or "0"

# containerd's: names the lease that keeps what a call makes.
LEASE: Final = "containerd-lease"

# Of Content.Write, from the client, with any value: nobody resumes this write. It is dropped as soon as the call ends
# without a commit, however it ends.
ONCE: Final = "sampan-write-once"
