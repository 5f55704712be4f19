"""What models, versions, artifacts and tensors are; reading weight files safely; the client.

User code imports from `weighbridge`; the generic name of this package is an implementation detail.
"""
