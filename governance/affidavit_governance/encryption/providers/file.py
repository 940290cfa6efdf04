"""A key file outside the workspace, readable by its owner alone: the default."""

from __future__ import annotations

import base64
import os
import stat
from pathlib import Path

from affidavit.errors import AffidavitError, UsageError
from affidavit.store import FolderFiles
from affidavit_governance.encryption.providers.base import LocalProvider, decode_key

HOME = "AFFIDAVIT_HOME"
_MARK = "affidavit-key-1"


class FileProvider(LocalProvider):
    """``keys/<workspace id>.key`` in ``AFFIDAVIT_HOME`` or ``~/.config/affidavit``."""

    name = "file"

    @property
    def path(self) -> Path:
        """Where the key file is."""
        home = Path(os.environ.get(HOME) or Path.home() / ".config" / "affidavit")
        return home.absolute() / "keys" / f"{self.owner.workspace_id}.key"

    @property
    def label(self) -> str:
        return f"The key file '{self.path}'"

    def key(self, *, create: bool = False) -> bytes:
        """The key in the file."""
        path, where = self.path, self.owner.location
        if self.owner.folder is not None and path.is_relative_to(self.owner.folder):
            raise UsageError("The key file would lie inside the workspace that it protects.", hint=f"Point {HOME} to another folder.")
        try:
            if create and not path.exists():
                folder = FolderFiles(path.parent)  # whoever is killed here leaves no key file, or a whole one
                folder.write(path.name, f"{_MARK} {base64.b64encode(os.urandom(32)).decode()}\n".encode())
            mode = path.stat().st_mode
            text = path.read_text(encoding="ascii", errors="replace")
        except OSError as error:
            raise AffidavitError(
                f"The key file '{path}' of workspace {where} cannot be read: {error.strerror}.",
                hint=f"Restore it from a backup, or point {HOME} to the folder that holds 'keys'. Without it nothing in the workspace can be opened.",
            ) from None
        if stat.S_IMODE(mode) & 0o077:
            raise AffidavitError(f"The key file '{path}' can be read by other users.", hint=f"chmod 600 '{path}'")
        mark, _, encoded = text.strip().partition(" ")
        if mark != _MARK:
            raise AffidavitError(f"'{path}' is no key file of this version.", hint="Restore it from a backup.")
        return decode_key(encoded, f"The key in '{path}'")
