"""Target model to a smaller stand-in whose gradients select."""
