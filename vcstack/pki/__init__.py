"""The installation's own certificate authority: keys, certificates, TLS contexts. Only cryptography inside.

The API server, the programs and the node agent all use it, so it imports nothing else of VC Stack.
"""
