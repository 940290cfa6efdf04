"""Who may see originals again, and what makes that impossible: the vault, subject keys, revealing and shredding."""
