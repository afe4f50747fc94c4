"""What many modules need is written once: a second way of writing it is a twin, and twins drift apart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("aggregation", "labelers", "reward_model", "pipeline", "benchmarks")
HOMES = {
    "types of arrays": (r"\bNDArray\b", "aggregation/base.py"),
    "the logistic function": (r"1\.0 \+ np\.(?:tanh|exp)\(|\bexpit\b", "aggregation/log_odds.py"),
    "the nearest name": (r"\bdifflib\b", "aggregation/names.py"),
    "the normal quantile": (r"\b1\.9(?:6|59)", "aggregation/statistics/intervals.py"),
    "ties that count half": (r"== 0\.5, 0\.5|== 0, 0\.5", "aggregation/statistics/scores.py"),
    "percentiles of resamples": (r"\bnan(?:quantile|percentile)\(", "aggregation/statistics/intervals.py"),
    "Krippendorff's alpha": (r"def krippendorff_alpha|krippendorff\.alpha", "aggregation/statistics/agreement.py"),
    "tables of Markdown": (r"[\"']-{3}[|:]*[\"']", "pipeline/storage/markdown.py"),
    "the cache folder": ('TRUTHFUL_RLHF_CACHE"', "labelers/judges/cache.py"),
}
"""What -> how it is recognised in code, and the one file that may hold it."""


def files_with(pattern: str, sources: dict[str, str]) -> set[str]:
    """Return the names of the sources that hold the pattern."""
    return {name for name, source in sources.items() if re.search(pattern, source)}


def all_sources() -> dict[str, str]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


@pytest.mark.parametrize("what", HOMES)
def test_it_is_written_once(what: str) -> None:
    pattern, home = HOMES[what]
    sources = all_sources()
    assert len(sources) > 100
    assert home in sources
    assert files_with(pattern, sources) <= {home}


@pytest.mark.parametrize(
    ("what", "twin"),
    [
        ("types of arrays", "FloatArray = NDArray[np.float64]"),
        ("the logistic function", "p = 0.5 * (1.0 + np.tanh(0.5 * x))"),
        ("the logistic function", "p = 1.0 / (1.0 + np.exp(-x))"),
        ("the nearest name", "near = difflib.get_close_matches(name, names)"),
        ("the normal quantile", "_Z = 1.959963984540054"),
        ("the normal quantile", "low = mean - 1.96 * error"),
        ("ties that count half", "right = np.where(q == 0.5, 0.5, (q > 0.5) == (y > 0.5))"),
        ("percentiles of resamples", "low, high = np.nanquantile(resamples, [0.025, 0.975])"),
        ("Krippendorff's alpha", "alpha = krippendorff.alpha(reports.T)"),
        ("tables of Markdown", 'lines = ["|" + "---|" * len(header)]'),
        ("tables of Markdown", 'rule = ["---"] * len(columns)'),
        ("the cache folder", 'folder = os.environ.get("TRUTHFUL_RLHF_CACHE", home)'),
    ],
)
def test_the_check_sees_a_twin(what: str, twin: str) -> None:
    """Negative control: every one of these lines stood in this repository, away from its home."""
    assert files_with(HOMES[what][0], {"pipeline/elsewhere.py": twin}) == {"pipeline/elsewhere.py"}
