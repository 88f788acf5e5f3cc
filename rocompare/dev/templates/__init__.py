"""Working skeletons, which `rocompare new` copies under the names of their users."""
