"""Training: resumable loops, and what they train."""
