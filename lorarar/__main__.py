"""`python -m lorarar`, and `accelerate launch -m lorarar`."""

from lorarar.cli import app

app()
