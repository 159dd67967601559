import pytest

from pexen.testing import VirtualClock


def test_time_stands_still_until_told():
    clock = VirtualClock(5)
    assert [clock(), clock()] == [5.0, 5.0]
    clock.advance(2.5)
    clock.jump(10)
    assert clock() == 10.0


@pytest.mark.parametrize("to", [4.999, float("nan")])
def test_time_never_goes_back(to):
    clock = VirtualClock(5)
    with pytest.raises(ValueError, match="does not go back"):
        clock.jump(to)
    assert clock() == 5.0


def test_appointments_are_kept_in_order_of_time_then_of_making():
    clock, seen = VirtualClock(), []
    for name, when in [("c", 3), ("a", 1), ("b1", 2), ("b2", 2)]:
        clock.call_at(when, lambda name=name: seen.append((name, clock())))
    clock.jump(2)
    assert seen == [("a", 1), ("b1", 2), ("b2", 2)]
    clock.run_until_idle()
    assert seen[3:] == [("c", 3)]
    assert clock() == 3


def test_an_appointment_made_on_the_way_is_kept_on_the_way():
    clock, seen = VirtualClock(), []

    def again():
        seen.append(clock())
        if len(seen) < 4:
            clock.call_later(1, again)

    clock.call_later(1, again)
    clock.advance(2.5)
    assert seen == [1, 2]
    assert (clock(), clock.next_at()) == (2.5, 3)
    clock.run_until_idle()
    assert seen == [1, 2, 3, 4]


def test_an_appointment_in_the_past_is_kept_at_the_next_step_and_time_does_not_go_back():
    clock, seen = VirtualClock(10), []
    clock.call_at(3, lambda: seen.append(clock()))
    assert clock.next_at() == 10
    clock.advance(0)
    assert seen == [10]


def test_a_cancelled_appointment_is_not_kept_and_does_not_hold_time_up():
    clock, seen = VirtualClock(), []
    first = clock.call_at(1, lambda: seen.append(1))
    clock.call_at(2, lambda: seen.append(2))
    first.cancel()
    assert clock.next_at() == 2
    assert clock.run_next()
    first.cancel()
    assert not clock.run_next()
    assert seen == [2]


def test_an_action_that_raises_is_not_done_again():
    clock = VirtualClock()
    clock.call_at(1, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        clock.run_next()
    assert (clock(), clock.run_next()) == (1, False)
