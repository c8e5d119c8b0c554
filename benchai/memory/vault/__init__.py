"""Obsidian vaults: notes read where they are, their links followed, and notes that agents write."""
