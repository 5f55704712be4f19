"""Weight files changed structurally, and what must hold of the reader whatever they have become."""
