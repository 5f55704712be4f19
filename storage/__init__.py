"""Where models live: blob stores, the catalog, and the use cases that keep the two consistent."""
