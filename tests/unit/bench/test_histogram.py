import math
import random

import pytest

from bench.histogram import PERCENTILES, Histogram, text_plot


def histogram(*values: float) -> Histogram:
    found = Histogram()
    for value in values:
        found.add(value)
    return found


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_percentiles_are_exact_to_three_digits(scale: float) -> None:
    draw = random.Random(1)
    values = sorted(scale * draw.lognormvariate(0, 2) for _ in range(10_000))
    found = histogram(*values)
    for share in (0.0001, 0.01, 0.5, 0.9, 0.99, 0.999, 0.9999, 1.0):
        exact = values[math.ceil(round(share * len(values), 6)) - 1]
        assert found.percentile(share) == pytest.approx(exact, rel=0.001)
    assert (found.total, found.max) == (10_000, values[-1])


def test_a_histogram_counts_zeros_and_knows_when_it_is_empty() -> None:
    assert (Histogram().total, Histogram().max, Histogram().percentile(0.99)) == (0, 0.0, 0.0)
    found = histogram(0.0, 0.0, 0.0, 5.0)
    assert (found.percentile(0.75), found.percentile(0.76), found.percentile(1)) == (0.0, 5.0, 5.0)


def test_a_value_may_count_many_times() -> None:
    found = Histogram()
    found.add(1.0, 99)
    found.add(7.0)
    assert found.total == 100
    assert found.percentile(0.99) == pytest.approx(1.0, rel=0.001)
    assert found.percentile(0.999) == 7.0


@pytest.mark.parametrize("value", [-0.001, math.nan])
def test_what_is_not_a_duration_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="is not 0 or more"):
        Histogram().add(value)


def test_merged_histograms_are_that_of_all_values() -> None:
    one, other = histogram(1.0, 2.0, 300.0), histogram(0.0, 2.0, 40.0)
    one.merge(other)
    whole = histogram(1.0, 2.0, 300.0, 0.0, 2.0, 40.0)
    assert list(one.shares()) == list(whole.shares())
    assert (one.total, one.max) == (6, 300.0)


def test_a_plot_has_a_row_for_each_percentile_and_the_largest_has_the_longest_bar() -> None:
    lines = text_plot(histogram(*range(1, 101))).splitlines()
    assert [float(line.split()[0]) for line in lines] == list(PERCENTILES)
    assert lines[0].split()[2:] == ["50.02", "#" * 25]
    assert lines[-1].split()[2:] == ["100.00", "#" * 50]
