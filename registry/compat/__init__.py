"""What will load where, before anything is loaded: pure comparisons of two architectures, without torch."""
