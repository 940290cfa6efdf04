"""New plugin projects, written whole: what ``affidavit new-plugin`` does."""

from affidavit.scaffold.kinds import KINDS
from affidavit.scaffold.project import Project, new_plugin

__all__ = ["KINDS", "Project", "new_plugin"]
