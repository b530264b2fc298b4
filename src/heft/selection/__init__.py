"""What each feature has to do with clicks and conversions, and which of them a model sees."""
