"""What requests cost and how they ended: rows in SQLite, written beside them, and what can be learnt from them."""
