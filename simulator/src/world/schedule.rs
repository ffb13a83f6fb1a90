//! When readings are taken during a day, and when they reach the server.

use super::clock::MAX_DELAY;
use super::draw::Draw;
use crate::time::{DAY, HOUR, Millis, SECOND, day_start};

/// A part of the day without network: its readings arrive together, hours later.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    stretch: Option<(Millis, Millis, Millis)>,
}

impl Gap {
    /// One day in fifteen has such a part.
    pub(crate) fn draw(draw: &mut Draw, day: i64) -> Self {
        let lost = draw.chance(1.0 / 15.0);
        let from = day_start(day) + draw.between(2, 16) * HOUR;
        let to = from + draw.between(2, 6) * HOUR;
        let arrival = to + draw.between(1, 16) * HOUR;
        debug_assert!(arrival - from <= MAX_DELAY);
        Self {
            stretch: lost.then_some((from, to, arrival)),
        }
    }

    /// When a reading of this time arrives.
    pub(crate) fn arrival(&self, time: Millis) -> Millis {
        match self.stretch {
            Some((from, to, arrival)) if (from..to).contains(&time) => arrival,
            _ => time,
        }
    }
}

/// Strictly increasing times within one UTC day. Some are whole seconds, some are not; on some days one falls
/// on the first millisecond of the day and on some one on the last.
pub(crate) fn times(draw: &mut Draw, day: i64, fewest: i64, most: i64) -> Vec<Millis> {
    let start = day_start(day);
    let count = draw.between(fewest, most);
    let mut times = Vec::with_capacity(count.max(0) as usize + 2);
    if count <= 0 {
        return times;
    }
    if draw.chance(0.1) {
        times.push(start);
    }
    let opens = start + draw.between(0, 8) * HOUR + SECOND;
    let closes = (opens + draw.between(6, 16) * HOUR).min(start + DAY - SECOND);
    let slot = (closes - opens) / count;
    for index in 0..count {
        // The last second of a slot stays free, so that rounding down never collides with the previous slot.
        let time = opens + index * slot + draw.between(0, (slot - SECOND - 1).max(0));
        let whole = draw.chance(0.5);
        times.push(if whole {
            (time + SECOND - 1) / SECOND * SECOND
        } else {
            time
        });
    }
    if draw.chance(0.1) {
        times.push(start + DAY - 1);
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rise_strictly_within_their_day() {
        let mut edges = 0;
        for day in 19_000..19_400 {
            let times = times(&mut Draw::new(7, "test", &[day as u64]), day, 8, 60);
            assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
            assert!(times.iter().all(|time| time.div_euclid(DAY) == day));
            edges += usize::from(times.first() == Some(&day_start(day)));
        }
        assert!(
            edges > 10,
            "midnight itself must occur, but occurs {edges} times"
        );
    }

    #[test]
    fn nothing_arrives_before_it_is_read_or_later_than_the_limit() {
        let mut late = 0;
        for day in 0..300 {
            let gap = Gap::draw(&mut Draw::new(7, "gap", &[day as u64]), day);
            for time in (0..24).map(|hour| day_start(day) + hour * HOUR) {
                let delay = gap.arrival(time) - time;
                assert!((0..=MAX_DELAY).contains(&delay));
                late += usize::from(delay > 0);
            }
        }
        assert!(late > 0);
    }
}
