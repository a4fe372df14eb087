"""The shipped test kit: builders, fakes and contract tests. Only tests import it."""
