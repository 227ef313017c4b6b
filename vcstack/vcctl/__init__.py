"""The command line: kubectl's habits over the kind registry; a new kind needs no code here."""
