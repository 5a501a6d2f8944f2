"""Quality metrics of predictions, labels and images, and what they say about the model."""
