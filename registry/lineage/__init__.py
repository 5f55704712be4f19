"""What two state_dicts have in common, and what became of one on the way to the other: from digests alone."""
