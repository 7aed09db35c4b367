"""Pages for a browser. Each is one file that needs nothing else; all have one look."""
