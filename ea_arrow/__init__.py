"""The columnar home of computer-vision model predictions."""
