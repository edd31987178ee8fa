"""`make check` says Ready on this machine, and says what is wrong where something is."""

import pytest

from tools import check


def test_says_ready_and_draws(capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(check, "FIGURE", check.ROOT / "_build" / "check_test.png")
    check.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0].rstrip(":") for line in lines] == [
        *["Python", "Versions", "Data", "Harmony", "Figure", "Ready"]
    ]
    assert check.FIGURE.stat().st_size > 10_000
    check.FIGURE.unlink()


def test_names_another_version_and_a_missing_package(monkeypatch) -> None:
    real = check.version

    def changed(name: str) -> str:
        if name == "harmonypy":
            return "0.0.10"
        if name == "leidenalg":
            raise check.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(check, "version", changed)
    with pytest.raises(SystemExit, match=r"(?s)harmonypy is 0.0.10, .*leidenalg is not there.*Not"):
        check.main()


def test_a_correction_that_does_nothing_is_not_ready(monkeypatch) -> None:
    def nothing(adata, *args, **kwargs):
        adata.obsm["X_pca_harmony"] = adata.obsm["X_pca"]

    monkeypatch.setattr("helpers.integrate.harmonize", nothing)
    with pytest.raises(SystemExit, match="should mix"):
        check.main()
