"""Attacks on trained models: what an adversary finds out, as a lower bound beside the accountant's upper one."""
