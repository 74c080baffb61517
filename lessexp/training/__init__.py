"""What changes parameters: warm-up and final training."""
