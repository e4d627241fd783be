import pytest

from apdist.training.cluster.credentials import credentials_kept


class Trial:
    """Stands for a class that Ray Tune makes an actor of."""


def test_ray_tune_describes_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.execution import class_cache

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "c4nary")
    described = []
    monkeypatch.setattr(
        class_cache.ray, "remote", lambda runtime_env: described.append(runtime_env) or type
    )
    with credentials_kept():
        class_cache._ActorClassCache().get(Trial)
    assert "c4nary" not in str(described)
    assert described[0]["env_vars"]["PL_DISABLE_FORK"] == "1"
    class_cache._ActorClassCache().get(Trial)
    assert "c4nary" in str(described), "Ray Tune does not do it any more: remove our part"
