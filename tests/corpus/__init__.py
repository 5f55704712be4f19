"""A corpus of weight files, made when it is needed: published bypasses of scanners, and harmless files of all kinds.

Nothing here is stored: every file is built by torch, or byte by byte. Payloads would only touch a marker file.
"""
