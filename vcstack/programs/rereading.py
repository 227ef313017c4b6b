"""vc-management's settings file, looked at again while the program runs: what can be changed then is."""

from pathlib import Path

import structlog

from vcstack.programs.settings import ManagementSettings, SettingsError, load_settings

logger = structlog.get_logger(__name__)
Mark = tuple[int, int, int]


class SettingsFile:
    """Tells when the file says something else. Its methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = self._look()

    def read_changed(self) -> ManagementSettings | None:
        """Return the settings if the file was written since it was last looked at; None: it was not, or is wrong."""
        mark = self._look()
        if mark == self._mark:
            return None
        self._mark = mark
        try:
            return load_settings(self._path)
        except SettingsError as error:
            logger.error("the settings file was changed and cannot be used, what was read before holds", why=str(error))
            return None

    def _look(self) -> Mark | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino
