"""People who do things in tests of the catalog."""

from storage.metadata.records import Actor, Sight

ADA = Actor("ada")
BOB = Actor("bob")
EVE = Actor("eve")
EVERYTHING = Sight(everything=True)
"""Of somebody who may read all models."""
