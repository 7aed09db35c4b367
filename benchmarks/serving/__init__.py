"""The server under load, and in the hands of lm-eval."""
