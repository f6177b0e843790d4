"""Why the API server cannot start or go on, as one line that names whose fault it is. Replies to clients: status.py."""

from __future__ import annotations

from skerry.errors import SkerryError


class ApiServerError(SkerryError):
    """Any failure of `skerry-hub api` outside of a request."""


class DataError(ApiServerError):
    """The data folder cannot be made, read or written."""


class DataInUse(DataError):
    """Another process serves this data folder."""


class DatabaseError(DataError):
    """The database is corrupt, unreadable, or of a format this version does not know."""
