"""Writing predictions and labels in other programs' formats: one module per target."""
