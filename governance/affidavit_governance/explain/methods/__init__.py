"""The explainers, by name: `exact linear tree kernel leverage permutation partition gradient deep lime`."""
