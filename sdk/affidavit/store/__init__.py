"""Where a workspace keeps things: SQL rows, small atomic files, and sealed content-addressed objects."""

from affidavit.store.database import Store
from affidavit.store.files import Files, FolderFiles, SqlFiles, write_atomic, writing
from affidavit.store.objects import Objects

__all__ = ["Files", "FolderFiles", "Objects", "SqlFiles", "Store", "write_atomic", "writing"]
