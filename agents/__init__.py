"""How to act and learn: the ladder."""
