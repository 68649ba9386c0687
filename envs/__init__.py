"""What an environment is to an agent; knows nothing of the rest of qladder."""
