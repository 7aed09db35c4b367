"""What scores are wanted for: each file is one use, and knows only scores."""
