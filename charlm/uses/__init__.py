"""Uses of scores: one file for each, or for a format that it reads. None knows the command line."""
