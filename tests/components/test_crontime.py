import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquiline.components.crontime import Timing, frequency_of, smeared
from aquiline.errors import ProfileError


@pytest.mark.parametrize(
    ("timing", "by", "fields"),
    [
        (Timing(), 0, "* * * * *"),
        (Timing(minute="*/15", weekday="mon-fri"), 0, "*/15 * * * mon-fri"),
        (Timing(minute=0, hour=7), 0, "0 7 * * *"),
        (Timing(minute="0", smear=60), 59, "59 * * * *"),
        (Timing(minute="5", hour="*/2", smear=30), 20, "25 */2 * * *"),
        (Timing(minute="50", smear=30), 20, "10 * * * *"),
        (Timing(minute="50", hour="1,13", smear=30), 20, "10 2,14 * * *"),
        (Timing(minute="50", hour="1-3", smear=30), 5, "55 1,2,3 * * *"),
        (Timing(minute="50", hour="0-12/6", smear=30), 20, "10 1,7,13 * * *"),
        (Timing(minute="30", hour="23", smear=1440), 60, "30 0 * * *"),
        (Timing(minute="0", hour="23", day="31", month="12", weekday="6", smear=120), 60, "0 0 1 1 0"),
        (Timing(minute="0", hour="23", day="15", month="1-2", weekday="7", smear=120), 0, "0 23 15 1,2 0"),
    ],
)
def test_a_job_is_moved_whole(timing: Timing, by: int, fields: str) -> None:
    """Minutes carry into hours, hours into day, weekday and month, as far as those are numbers."""

    assert fields == smeared(timing, by, "/t")


@given(st.integers(0, 59), st.integers(0, 23), st.integers(0, 1439))
def test_a_moved_time_of_day_is_that_much_later(minute: int, hour: int, by: int) -> None:
    """Whatever the smear, the job runs that many minutes later, perhaps on the next day."""
    fields = smeared(Timing(minute=str(minute), hour=str(hour), smear=1440), by, "/t").split()

    assert (hour * 60 + minute + by) % 1440 == int(fields[1]) * 60 + int(fields[0])


@pytest.mark.parametrize(
    ("timing", "message"),
    [
        (Timing(smear=5), "/t/minute: found '*', expected one number, because of smear"),
        (Timing(minute="0", smear=61), "/t/hour: found '*', expected one number, because smear is above 60"),
        (
            Timing(minute="50", hour="*/2", smear=30),
            "/t/hour: found '*/2', expected numbers, because smear may carry into it",
        ),
        (
            Timing(minute="50", hour="23", weekday="mon", smear=30),
            "/t/weekday: found 'mon', expected numbers, because smear may carry into it",
        ),
        (Timing(hour="24"), "/t/hour: found '24', expected a hour from 0 to 23"),
        (Timing(month="mon"), "/t/month: found 'mon', expected a month from 1 to 12"),
    ],
)
@pytest.mark.parametrize("by", [0, 1])
def test_what_some_host_could_not_have_no_host_gets(timing: Timing, message: str, by: int) -> None:
    """A smear that might not be possible is refused whatever the host's own share is."""

    with pytest.raises(ProfileError) as raised:
        smeared(timing, by, "/t")

    assert message == str(raised.value)


@pytest.mark.parametrize(
    ("frequency", "fields"),
    [
        ("AUTO 7 * * *", "17 7 * * *"),
        ("15 0-23/3 * * *", "15 0-23/3 * * *"),
        ("@daily", "@daily"),
        ("5  4 1 jan Mon", "5  4 1 jan Mon"),
    ],
)
def test_a_frequency_is_taken_as_written(frequency: str, fields: str) -> None:
    """But for AUTO, which is the host's own minute."""

    assert fields == frequency_of(frequency, 17, "/f")


@pytest.mark.parametrize(
    ("frequency", "message"),
    [
        ("* * * *", "/f: found 4 fields in '* * * *', expected 5"),
        ("60 * * * *", "/f: found '60', expected a minute from 0 to 59"),
        ("* AUTO * * *", "/f: found 'AUTO', expected a hour from 0 to 23"),
        ("* * * * ;", "/f: found ';', expected a weekday from 0 to 7"),
        ("- * * * *", "/f: found '-', expected a minute from 0 to 59"),
        ("1, * * * *", "/f: found '1,', expected a minute from 0 to 59"),
        ("@often", "/f: found 1 fields in '@often', expected 5"),
    ],
)
def test_what_cron_would_not_read_is_refused(frequency: str, message: str) -> None:
    """A line that cron would ignore is a fault of the profile."""

    with pytest.raises(ProfileError) as raised:
        frequency_of(frequency, 0, "/f")

    assert message == str(raised.value)
