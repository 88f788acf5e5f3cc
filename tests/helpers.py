"""What several test files need: specs and made-up batches."""

from rocompare.doctor import CPU, make_batch, make_spec

__all__ = ["CPU", "make_batch", "make_spec"]
