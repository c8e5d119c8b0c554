"""Which role and which workflow a request goes to."""
