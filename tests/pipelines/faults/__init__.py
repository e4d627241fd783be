"""What goes wrong around a training, on purpose: it must cost time and nothing else."""

import pytest

pytest.register_assert_rewrite("tests.pipelines.faults.rows")
