"""Controls from the formats of other programs, one file per format."""
