"""Compliance: the gates of the policy, and the report."""
