"""The nearest changes that flip a decision."""
