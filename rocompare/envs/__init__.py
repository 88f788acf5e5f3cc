"""The environments that rocompare ships, one per file."""
