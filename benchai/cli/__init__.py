"""The command line: text for people on stderr, data on stdout."""
