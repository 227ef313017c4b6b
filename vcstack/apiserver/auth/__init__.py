"""How people and machines prove who they are: passwords, second factors, sessions, tokens, API keys."""
