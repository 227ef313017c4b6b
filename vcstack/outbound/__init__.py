"""Requests to addresses that tenants name: an identity provider, a registry, a webhook. One guard for all of them."""
