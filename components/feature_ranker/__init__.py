"""FeatureRanker: what each feature has to do with clicks and conversions."""
