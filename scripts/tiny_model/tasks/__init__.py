"""Task families: each module makes conversations of one kind out of a `Draw`."""
