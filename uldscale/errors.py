"""Errors by who must act.

    UldscaleError
    ├── UserError          the user's turn: exit code 2, one line
    │   ├── ConfigError    a job file or an override
    │   ├── DataError      images, annotations, regions of interest
    │   ├── StoreError     a feature store made by another run, damaged, or full
    │   └── ModelError     weights that are missing, gated or of another layout
    └── IncompleteError    work is left over: exit code 3, the same command goes on

Every message says what is wrong, what was got, what is wanted and what to do. All other exceptions are bugs: exit code 1.
"""

from collections.abc import Sequence

NAMED = 5
"""Problems that one line names."""


def first_of(problems: Sequence[str], named: int = NAMED) -> str:
    """The first few of many problems, in one line."""
    more = [f"and {len(problems) - named} more"] if len(problems) > named else []
    return "; ".join([*problems[:named], *more])


class UldscaleError(Exception):
    """Root of all errors that a user of uldscale can meet."""

    exit_code = 1


class UserError(UldscaleError):
    """Something only the user can put right."""

    exit_code = 2


class ConfigError(UserError):
    """A job file or an override that does not fit the settings."""


class DataError(UserError):
    """Images, annotations or regions of interest that cannot be used as they are."""


class StoreError(UserError):
    """A feature store that belongs to another run, is damaged, or cannot be written."""


class ModelError(UserError):
    """Model weights that are missing, gated, or of another layout."""


class IncompleteError(UldscaleError):
    """Work is left over; running the same command again goes on from here."""

    exit_code = 3
