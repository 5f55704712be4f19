"""The checks of `fsck`: what the rows say, compared with what is stored."""
