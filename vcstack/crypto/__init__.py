"""Encryption at rest: master keys, envelopes, `ENC(...)` values, and the operations of managed keys.

A leaf: it knows nothing of resources, the store or HTTP, so that any of them may use it. docs/adr says which formats.
"""
