import pytest

# Their assertions are as explicit as those of a test.
pytest.register_assert_rewrite("tests.stage", "tests.onetime")
