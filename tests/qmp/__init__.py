import pytest

pytest.register_assert_rewrite("tests.qmp.peers", "tests.qmp.scripts")
