"""What the coding workflow works with: the files it changes, the tests it runs."""
