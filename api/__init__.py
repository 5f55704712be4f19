"""The HTTP service: translation between requests and the use cases in `storage`, and nothing else."""
