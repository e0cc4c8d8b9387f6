//! Windows of a week, by the host's local time. Pure.

use bosco_release::Window;

/// Minutes of a day.
const DAY: u32 = 24 * 60;
/// Days of a week.
const WEEK: u32 = 7;

/// A moment of a week, by local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// The day; Monday is 0.
    pub day: u8,
    /// The minute of the day.
    pub minute: u16,
}

/// In how many minutes the next of these windows opens: 0 where one is open, `None` where none ever is. With no windows at
/// all it is always open.
#[must_use]
pub fn opens(windows: &[Window], local: Local) -> Option<u32> {
    if windows.is_empty() {
        return Some(0);
    }
    windows.iter().filter_map(|window| opens_one(window, local)).min()
}

fn opens_one(window: &Window, Local { day, minute }: Local) -> Option<u32> {
    let (from, to) = (u32::from(window.from), u32::from(window.to));
    if from >= DAY || to > DAY {
        return None;
    }
    // One that ends as it begins lasts a day; one that ends before goes past midnight.
    let length = if to > from { to - from } else { to + DAY - from };
    let now = u32::from(day) % WEEK * DAY + u32::from(minute).min(DAY - 1);
    let begins = |begin: u32| {
        let since = (now + WEEK * DAY - begin) % (WEEK * DAY);
        if since < length { 0 } else { WEEK * DAY - since }
    };
    let days = (0..WEEK)
        .filter(|day| window.days.is_empty() || window.days.iter().any(|named| u32::from(*named) == *day));
    days.map(|day| begins(day * DAY + from)).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(days: &[u8], from: u16, to: u16) -> Window {
        Window { days: days.to_vec(), from, to }
    }

    fn at(day: u8, hour: u16, minute: u16) -> Local {
        Local { day, minute: hour * 60 + minute }
    }

    #[test]
    fn a_window_past_midnight_belongs_to_the_day_that_it_begins_on() {
        // From Friday 22:00 to Saturday 06:00.
        let night = [window(&[4], 22 * 60, 6 * 60)];
        assert_eq!(opens(&night, at(4, 23, 0)), Some(0));
        assert_eq!(opens(&night, at(5, 5, 59)), Some(0));
        assert_eq!(opens(&night, at(5, 6, 0)), Some(6 * DAY + 16 * 60));
        assert_eq!(opens(&night, at(4, 5, 0)), Some(17 * 60), "not the morning before");
        assert_eq!(opens(&[window(&[6], 1380, 60)], at(0, 0, 30)), Some(0), "past the end of the week");
    }

    #[test]
    fn no_window_is_always_open_and_a_wrong_one_never() {
        assert_eq!(opens(&[], at(0, 0, 0)), Some(0));
        assert_eq!(opens(&[window(&[], 0, 0)], at(3, 12, 0)), Some(0), "a whole day, every day");
        assert_eq!(opens(&[window(&[9], 0, 10)], at(0, 0, 0)), None);
        assert_eq!(opens(&[window(&[], 2000, 10)], at(0, 0, 0)), None);
    }

    /// Minute by minute, as one would by hand.
    fn is_open(window: &Window, local: Local) -> bool {
        let days = |day: u8| window.days.is_empty() || window.days.contains(&day);
        let yesterday = (local.day + 6) % 7;
        if window.to > window.from {
            days(local.day) && (window.from..window.to).contains(&local.minute)
        } else {
            (days(local.day) && local.minute >= window.from) || (days(yesterday) && local.minute < window.to)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn it_opens_exactly_when_it_is_said_to(
            days in prop::collection::vec(0_u8..7, 0..3), from in 0_u16..1440, to in 0_u16..1440,
            day in 0_u8..7, minute in 0_u16..1440,
        ) {
            let window = window(&days, from, to);
            let wait = opens(std::slice::from_ref(&window), Local { day, minute }).unwrap();
            let after = |minutes: u32| {
                let all = u32::from(day) * DAY + u32::from(minute) + minutes;
                Local { day: (all / DAY % WEEK) as u8, minute: (all % DAY) as u16 }
            };
            prop_assert!(is_open(&window, after(wait)));
            prop_assert!(wait == 0 || !is_open(&window, after(0)));
            prop_assert!(wait == 0 || !is_open(&window, after(wait - 1)));
            prop_assert!(wait < 2 || !is_open(&window, after(wait / 2)));
        }
    }
}
