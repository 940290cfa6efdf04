"""Who takes part in the game of an explained row."""
