"""`make bench`: what a transfer costs, each figure beside its peers in one run. `__main__` tells how to run it."""
