"""Weight files read without running them, with the standard library only.

One reader a format over one strict zip archive and one pickle machine; see `docs/reading-weights.md`.
"""
