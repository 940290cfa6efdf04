"""A module or a room for each kind of registration: its case, its subject, its checks."""
