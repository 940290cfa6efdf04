"""Key providers: where the key that seals a workspace's secrets is kept. Each is a plugin of the kind ``key_provider``."""

from affidavit_governance.encryption.providers.choosing import KEYS, choose

__all__ = ["KEYS", "choose"]
