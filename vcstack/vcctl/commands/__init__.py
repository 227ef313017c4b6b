"""One module a command or a family of commands; each registers itself with the application."""
