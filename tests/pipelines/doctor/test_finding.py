"""A look that fails is a finding, without secrets."""

from __future__ import annotations

from apdist_verbs.doctor.finding import State, examined


def test_secrets_of_an_address_are_not_shown() -> None:
    def check() -> tuple[State, str, str]:
        raise ValueError("s3 answered https://user:hidden@host/x?X-Amz-Signature=abc; do that")

    found = examined("runs", check)
    assert "hidden" not in found.found
    assert "abc" not in found.found
    assert found.remedy == "do that"
