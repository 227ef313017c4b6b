"""The single-machine cloud: every daemon of VC Stack, each host in namespaces of its own, all state in one folder.

`make up` drives it from the command line (`python -m deploy.lab`); tests use `Lab`, the one name meant for others.
"""

from deploy.lab.cloud import Lab

__all__ = ["Lab"]
