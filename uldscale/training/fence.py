"""Who may commit to a run: the workers that started last.

A worker may outlive what started it, on a node that was cut off for a while. What it wrote by then does not count, and what it would
make count is refused.
"""

import secrets
from dataclasses import dataclass
from typing import Self

from uldscale import files
from uldscale.errors import IncompleteError


@dataclass(frozen=True)
class Fence:
    """What workers hold that started together."""

    path: str
    token: str

    @classmethod
    def take(cls, path: str) -> Self:
        """Shut out all workers that started before."""
        fence = cls(path, secrets.token_hex(8))
        files.write_bytes(path, fence.token.encode())
        return fence

    def require(self) -> None:
        """Raises IncompleteError when workers have started since."""
        if files.read_bytes(self.path).decode() != self.token:
            raise IncompleteError(
                f"{self.path}: workers that started later go on with this run, and these end; nothing is lost"
            )
