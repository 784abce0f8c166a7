//! When subscribers are pinged and when their time is over: bounded work, whatever their number.
//!
//! ```text
//!   wheel (ping, 10 s)   slot 17: #7 ─ #3     slot 18: ─     slot 19: #9     each slot is a list of
//!   wheel (end, 60 s)    slot  4: #3          ...                            those due by its time
//! ```
//!
//! There is a wheel for each kind and interval: a configuration has a handful of them. A wheel turns once
//! in its interval, so a subscriber is due by less than [`SLOTS`]'s share of the interval too late, and
//! never too early. The links are part of the subscribers' own records: joining and leaving take constant
//! time and no memory.
//!
//! An interval that begins again only notes the new time. The subscriber stays in its slot, and moves on
//! when the wheel comes there: so a message that is sent to many touches nobody but them.

/// Slots of a wheel, a bit each in a word. An interval takes all but two: one, because times are rounded
/// up, and one that tells a whole turn from none.
const SLOTS: usize = 128;

/// No neighbour.
const NONE: u32 = u32::MAX;

/// No wheel. There are as many wheels as the configuration has intervals, which are not so many.
const NO_WHEEL: u16 = u16::MAX;

/// What happens when the interval is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The subscriber gets a ping, and a new interval begins.
    Ping,
    /// The subscriber's time is over.
    End,
}

/// A subscriber's place in one wheel. Each subscriber has two, so nothing is left empty in it.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
pub(super) struct Place {
    due_msec: usize,
    before: u32,
    after: u32,
    wheel: u16,
    slot: u16,
}

const _: () = assert!(size_of::<Place>() == 20);

impl Place {
    /// In no wheel.
    pub(super) const NOWHERE: Self =
        Self { due_msec: 0, before: NONE, after: NONE, wheel: NO_WHEEL, slot: 0 };
}

/// Where the places of all subscribers are, by index.
pub(super) trait Places {
    /// The place of subscriber `index` in its wheel of `kind`; `None` if there is no such subscriber.
    fn place(&mut self, kind: Kind, index: u32) -> Option<&mut Place>;
}

/// All wheels of this worker.
#[derive(Debug, Default)]
pub(super) struct Wheels {
    wheels: Vec<Wheel>,
}

#[derive(Debug)]
struct Wheel {
    kind: Kind,
    interval_msec: usize,
    /// What a slot stands for.
    step_msec: usize,
    /// The slot that the wheel is at, counted over all its turns: nobody waits in an earlier one.
    at: usize,
    /// Which slots are not empty.
    occupied: u128,
    /// The first of each slot.
    heads: [u32; SLOTS],
}

impl Wheels {
    /// Subscriber `index` joins the wheel of this interval, to be due one interval from now.
    pub(super) fn join(
        &mut self,
        places: &mut impl Places,
        kind: Kind,
        interval_msec: usize,
        index: u32,
        now_msec: usize,
    ) {
        let same = |wheel: &Wheel| wheel.kind == kind && wheel.interval_msec == interval_msec;
        let number = self.wheels.iter().position(same).unwrap_or_else(|| {
            self.wheels.push(Wheel::new(kind, interval_msec));
            self.wheels.len() - 1
        });
        self.leave(places, kind, index);
        let wheel = u16::try_from(number).ok().filter(|wheel| *wheel != NO_WHEEL);
        let Some(wheel) = wheel else { return };
        let Some(place) = places.place(kind, index) else { return };
        place.due_msec = now_msec.saturating_add(interval_msec);
        place.wheel = wheel;
        self.wheels[number].insert(places, index, now_msec);
    }

    /// Its interval begins again. Nothing happens if it is in no wheel of this kind.
    pub(super) fn restart(&self, place: &mut Place, now_msec: usize) {
        if let Some(wheel) = self.wheels.get(place.wheel as usize) {
            place.due_msec = now_msec.saturating_add(wheel.interval_msec);
        }
    }

    /// It is in no wheel of this kind any more. May be called twice.
    pub(super) fn leave(&mut self, places: &mut impl Places, kind: Kind, index: u32) {
        let Some(place) = places.place(kind, index) else { return };
        let wheel = self.wheels.get_mut(place.wheel as usize);
        if let Some(wheel) = wheel {
            wheel.remove(places, index);
        }
    }

    /// Somebody who is due. The caller restarts or ends its interval before asking again.
    pub(super) fn due(&mut self, places: &mut impl Places, now_msec: usize) -> Option<(Kind, u32)> {
        // An end goes before a ping: nobody is pinged to be dismissed.
        [Kind::End, Kind::Ping].into_iter().find_map(|kind| {
            let mut wheels = self.wheels.iter_mut().filter(|wheel| wheel.kind == kind);
            wheels.find_map(|wheel| Some((kind, wheel.due(places, now_msec)?)))
        })
    }

    /// When [`Wheels::due`] may have somebody; `None` if all wheels are empty.
    pub(super) fn next_msec(&self) -> Option<usize> {
        self.wheels.iter().filter_map(Wheel::next_msec).min()
    }
}

impl Wheel {
    fn new(kind: Kind, interval_msec: usize) -> Self {
        let step_msec = interval_msec.div_ceil(SLOTS - 2).max(1);
        Self { kind, interval_msec, step_msec, at: 0, occupied: 0, heads: [NONE; SLOTS] }
    }

    /// Puts a subscriber of this wheel, which is in no slot now, where it is due.
    fn insert(&mut self, places: &mut impl Places, index: u32, now_msec: usize) {
        let now = now_msec / self.step_msec;
        self.at = self.steps_to_next().map_or(now, |steps| now.min(self.at + steps));
        let Some(place) = places.place(self.kind, index) else { return };
        // While the wheel is behind the time, the slot may be one for an earlier time. A subscriber that is
        // found there too early is put on.
        let due = place.due_msec.div_ceil(self.step_msec).clamp(self.at, self.at + SLOTS - 1);
        let slot = due % SLOTS;
        let head = core::mem::replace(&mut self.heads[slot], index);
        (place.before, place.after, place.slot) = (NONE, head, slot as u16);
        if let Some(next) = places.place(self.kind, head) {
            next.before = index;
        }
        self.occupied |= 1 << slot;
    }

    fn remove(&mut self, places: &mut impl Places, index: u32) {
        let Some(place) = places.place(self.kind, index) else { return };
        let Place { before, after, slot, .. } = core::mem::replace(place, Place::NOWHERE);
        if let Some(next) = places.place(self.kind, after) {
            next.before = before;
        }
        if let Some(previous) = places.place(self.kind, before) {
            previous.after = after;
            return;
        }
        let slot = slot as usize % SLOTS;
        self.heads[slot] = after;
        if after == NONE {
            self.occupied &= !(1 << slot);
        }
    }

    fn due(&mut self, places: &mut impl Places, now_msec: usize) -> Option<u32> {
        let now = now_msec / self.step_msec;
        loop {
            let next = self.at + self.steps_to_next()?;
            if next > now {
                self.at = self.at.max(now);
                return None;
            }
            self.at = next;
            let index = self.heads[self.at % SLOTS];
            let Some(place) = places.place(self.kind, index).copied() else {
                debug_assert!(false, "a subscriber leaves its wheels before it goes");
                self.occupied &= !(1 << (self.at % SLOTS));
                continue;
            };
            if place.due_msec <= now_msec {
                return Some(index);
            }
            // Its interval has begun again since it came here. It is due after now, so in another slot.
            self.remove(places, index);
            if let Some(moved) = places.place(self.kind, index) {
                (moved.due_msec, moved.wheel) = (place.due_msec, place.wheel);
            }
            self.insert(places, index, now_msec);
        }
    }

    /// From where the wheel is to the first slot with somebody in it.
    fn steps_to_next(&self) -> Option<usize> {
        if self.occupied == 0 {
            return None;
        }
        let from_here = self.occupied.rotate_right((self.at % SLOTS) as u32);
        Some(from_here.trailing_zeros() as usize)
    }

    fn next_msec(&self) -> Option<usize> {
        Some((self.at + self.steps_to_next()?) * self.step_msec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Table {
        pings: Vec<Place>,
        ends: Vec<Place>,
    }

    impl Table {
        fn of(count: usize) -> Self {
            Self { pings: vec![Place::NOWHERE; count], ends: vec![Place::NOWHERE; count] }
        }
    }

    impl Places for Table {
        fn place(&mut self, kind: Kind, index: u32) -> Option<&mut Place> {
            match kind {
                Kind::Ping => self.pings.get_mut(index as usize),
                Kind::End => self.ends.get_mut(index as usize),
            }
        }
    }

    /// All who are due by then, in order; each leaves.
    fn work_off(wheels: &mut Wheels, table: &mut Table, now_msec: usize) -> Vec<u32> {
        let mut found = Vec::new();
        while let Some((kind, index)) = wheels.due(table, now_msec) {
            found.push(index);
            wheels.leave(table, kind, index);
        }
        found
    }

    #[test]
    fn somebody_is_due_when_the_interval_is_over() {
        let (mut wheels, mut table) = (Wheels::default(), Table::of(2));
        assert_eq!(wheels.next_msec(), None);
        wheels.join(&mut table, Kind::Ping, 10_000, 0, 500);
        wheels.join(&mut table, Kind::Ping, 10_000, 1, 5_000);
        let step = 10_000_usize.div_ceil(SLOTS - 2);
        let next = wheels.next_msec().expect("somebody");
        assert!((10_500..10_500 + step).contains(&next), "{next}");
        assert_eq!(work_off(&mut wheels, &mut table, 10_499), []);
        assert_eq!(work_off(&mut wheels, &mut table, next), [0]);
        assert!((15_000..15_000 + step).contains(&wheels.next_msec().expect("the other")));
        assert_eq!(work_off(&mut wheels, &mut table, 1_000_000), [1]);
        assert_eq!(wheels.next_msec(), None);
    }

    #[test]
    fn an_interval_may_be_a_millisecond_or_without_end() {
        for interval in [1, 2, 126, 127, 128, 1000, usize::MAX / 2] {
            let (mut wheels, mut table) = (Wheels::default(), Table::of(1));
            wheels.join(&mut table, Kind::End, interval, 0, 7);
            assert_eq!(work_off(&mut wheels, &mut table, 7 + interval - 1), [], "{interval}");
            let next = wheels.next_msec().expect("somebody");
            assert!(next - (7 + interval) < interval.div_ceil(SLOTS - 2), "{interval}");
            assert_eq!(work_off(&mut wheels, &mut table, next), [0], "{interval}");
        }
    }

    #[test]
    fn an_interval_that_begins_again_moves_its_end() {
        let (mut wheels, mut table) = (Wheels::default(), Table::of(2));
        wheels.join(&mut table, Kind::Ping, 1000, 0, 0);
        wheels.join(&mut table, Kind::Ping, 1000, 1, 0);
        wheels.restart(&mut table.pings[0], 900);
        assert_eq!(work_off(&mut wheels, &mut table, 1100), [1]);
        let next = wheels.next_msec().expect("the other");
        assert!((1900..1910).contains(&next), "{next}");
        assert_eq!(work_off(&mut wheels, &mut table, next), [0]);
        wheels.restart(&mut table.pings[0], 2000);
        assert_eq!(wheels.next_msec(), None);
    }

    #[test]
    fn ends_go_before_pings() {
        let (mut wheels, mut table) = (Wheels::default(), Table::of(1));
        wheels.join(&mut table, Kind::Ping, 10, 0, 0);
        wheels.join(&mut table, Kind::End, 20, 0, 0);
        assert_eq!(wheels.due(&mut table, 100), Some((Kind::End, 0)));
        wheels.leave(&mut table, Kind::End, 0);
        assert_eq!(wheels.due(&mut table, 100), Some((Kind::Ping, 0)));
    }

    /// Random joins, restarts, departures and pauses, beside a table of plain due times.
    #[test]
    fn wheels_agree_with_a_plain_table() {
        const COUNT: u32 = 20;
        for seed in 0..30_u64 {
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut random = |below: usize| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 16) as usize % below
            };
            let (mut wheels, mut table) = (Wheels::default(), Table::of(COUNT as usize));
            let mut plain = vec![None; COUNT as usize];
            let mut now = 1_000_000;
            for _ in 0..600 {
                let index = random(COUNT as usize);
                match random(6) {
                    0 | 1 => {
                        let interval = [3, 100, 1000, 30_000][random(4)];
                        wheels.join(&mut table, Kind::Ping, interval, index as u32, now);
                        plain[index] = Some((now + interval, interval));
                    }
                    2 => {
                        wheels.restart(&mut table.pings[index], now);
                        if let Some((due, interval)) = &mut plain[index] {
                            *due = now + *interval;
                        }
                    }
                    3 => {
                        wheels.leave(&mut table, Kind::Ping, index as u32);
                        plain[index] = None;
                    }
                    _ => now += [0, 1, 10, 500, 100_000][random(5)],
                }
                for index in work_off(&mut wheels, &mut table, now) {
                    let (due, _) = plain[index as usize].take().expect("it had joined");
                    assert!(due <= now, "seed {seed}: too early");
                }
                for (due, interval) in plain.iter().flatten() {
                    let step = interval.div_ceil(SLOTS - 2);
                    assert!(due + step > now, "seed {seed}: too late, {due} at {now}");
                    let next = wheels.next_msec().expect("somebody waits");
                    assert!(next < due + step, "seed {seed}: nobody would ask in time");
                }
            }
        }
    }
}
