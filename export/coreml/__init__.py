"""Export to Core ML packages, whose specs and weights are checked on any machine."""
