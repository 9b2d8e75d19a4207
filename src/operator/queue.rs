//! Whose turn is next. No clock: the time is an argument.
//!
//! A CachedService waits once, however often it is ordered, and has one turn at
//! a time: what is ordered during a turn comes after it. Those of a lane have
//! their turns in the order of coming.
//!
//! Where children are missing, somebody waits for them: those turns go first.
//! All others (hand-over, status, drift) follow, and have a small share
//! meanwhile, so that a flood of creations does not silence them. There are not
//! many of them at a time, so that those who bring the pods up, the controllers
//! and the kubelets, get their turn with the API server; and one at a time while
//! turns of the first lane run, which finish the sooner.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

/// While both wait, one turn of so many is of the second lane.
const SHARE_OF_THE_SECOND: u32 = 64;

/// A turn that takes so long waits for something, and keeps the API server from nothing: it does
/// not count any more for how many there are at a time.
const SLOW: Duration = Duration::from_secs(1);

/// A turn of the first lane makes many objects, and takes long where the API server is busy. One
/// that takes so long hangs, and does not hold up the second lane any more.
const HANGS: Duration = Duration::from_secs(10);

/// How soon a turn is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// After what is missing.
    Second,
    /// Something is missing.
    First,
}

/// What waits, what runs, and what is to come later.
#[derive(Debug)]
pub struct Queue<T> {
    first: VecDeque<T>,
    second: VecDeque<T>,
    /// The lane in which each waits; an entry of another lane is out of date.
    waiting: HashMap<T, Lane>,
    /// Those whose turn it is.
    running: HashMap<T, Turn>,
    /// How many quick turns of the second lane there may be at a time.
    most_seconds: usize,
    later: BTreeMap<Due, T>,
    due: HashMap<T, Due>,
    orders: u64,
    firsts_in_a_row: u32,
}

/// A turn that is under way.
#[derive(Clone, Copy, Debug)]
struct Turn {
    lane: Lane,
    since: Instant,
    /// The lane of what was ordered meanwhile.
    again: Option<Lane>,
}

/// A point in time, and a number that makes it unique.
type Due = (Instant, u64);

impl<T: Clone + Eq + Hash> Queue<T> {
    /// An empty queue, for so many turns of the second lane at a time.
    #[must_use]
    pub fn new(most_seconds: usize) -> Self {
        Self {
            first: VecDeque::new(),
            second: VecDeque::new(),
            waiting: HashMap::new(),
            running: HashMap::new(),
            most_seconds,
            later: BTreeMap::new(),
            due: HashMap::new(),
            orders: 0,
            firsts_in_a_row: 0,
        }
    }

    /// Orders a turn.
    pub fn order(&mut self, item: T, lane: Lane) {
        if let Some(turn) = self.running.get_mut(&item) {
            turn.again = turn.again.max(Some(lane));
            return;
        }
        let waits_in = self.waiting.get(&item).copied();
        if waits_in.is_none_or(|waits_in| waits_in < lane) {
            self.waiting.insert(item.clone(), lane);
            self.lane(lane).push_back(item);
        }
    }

    /// Begins the next turn, if something waits.
    pub fn begin(&mut self, now: Instant) -> Option<T> {
        while let Some(entry) = self.later.first_entry().filter(|entry| entry.key().0 <= now) {
            let item = entry.remove();
            self.due.remove(&item);
            self.order(item, Lane::Second);
        }
        let lanes = if self.firsts_in_a_row + 1 < SHARE_OF_THE_SECOND {
            [Lane::First, Lane::Second]
        } else {
            [Lane::Second, Lane::First]
        };
        let has_room = |lane: &Lane| *lane == Lane::First || self.has_room_for_a_second(now);
        let lanes: Vec<Lane> = lanes.into_iter().filter(has_room).collect();
        let (item, lane) = lanes.into_iter().find_map(|lane| Some((self.take(lane)?, lane)))?;
        self.firsts_in_a_row = if lane == Lane::First { self.firsts_in_a_row + 1 } else { 0 };
        self.waiting.remove(&item);
        if let Some(due) = self.due.remove(&item) {
            self.later.remove(&due);
        }
        self.running.insert(item.clone(), Turn { lane, since: now, again: None });
        Some(item)
    }

    /// Ends a turn. There is another at `again` at the latest, if there is such a time.
    pub fn end(&mut self, item: &T, again: Option<Instant>) {
        if let Some(lane) = self.running.remove(item).and_then(|turn| turn.again) {
            self.order(item.clone(), lane);
        }
        if let Some(at) = again {
            self.orders += 1;
            let due = (at, self.orders);
            self.later.insert(due, item.clone());
            self.due.insert(item.clone(), due);
        }
    }

    /// When there may be a turn to begin, if nothing else happens before.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let later = self.later.first_key_value().map(|(due, _)| due.0);
        let waits = !self.second.is_empty();
        let slow = self.quick_seconds(now).map(|since| since + SLOW);
        let room = slow.chain(self.firsts(now).map(|since| since + HANGS)).min().filter(|_| waits);
        later.into_iter().chain(room).min()
    }

    fn has_room_for_a_second(&self, now: Instant) -> bool {
        let most = if self.firsts(now).next().is_some() { 1 } else { self.most_seconds };
        self.quick_seconds(now).count() < most
    }

    /// Since when the turns of the first lane run that do not hang.
    fn firsts(&self, now: Instant) -> impl Iterator<Item = Instant> {
        self.running_for_less(Lane::First, HANGS, now)
    }

    /// Since when the turns of the second lane run that are no slow ones.
    fn quick_seconds(&self, now: Instant) -> impl Iterator<Item = Instant> {
        self.running_for_less(Lane::Second, SLOW, now)
    }

    fn running_for_less(&self, lane: Lane, limit: Duration, now: Instant) -> impl Iterator<Item = Instant> {
        let turns = self.running.values().filter(move |turn| turn.lane == lane);
        turns.map(|turn| turn.since).filter(move |since| now.duration_since(*since) < limit)
    }

    /// How many wait for their turn.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.waiting.len()
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<T> {
        match lane {
            Lane::First => &mut self.first,
            Lane::Second => &mut self.second,
        }
    }

    fn take(&mut self, lane: Lane) -> Option<T> {
        while let Some(item) = self.lane(lane).pop_front() {
            if self.waiting.get(&item) == Some(&lane) {
                return Some(item);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(orders: &[(&'static str, Lane)]) -> Queue<&'static str> {
        let mut queue = Queue::new(2);
        for (item, lane) in orders {
            queue.order(*item, *lane);
        }
        queue
    }

    fn turns(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        let now = Instant::now();
        std::iter::from_fn(|| {
            let item = queue.begin(now)?;
            queue.end(&item, None);
            Some(item)
        })
        .collect()
    }

    #[test]
    fn turns_come_in_the_order_of_the_orders() {
        let mut queue =
            queue(&[("a", Lane::First), ("b", Lane::First), ("a", Lane::First), ("c", Lane::First)]);
        assert_eq!(turns(&mut queue), ["a", "b", "c"]);
    }

    #[test]
    fn what_is_missing_goes_before_all_else() {
        let mut queue = queue(&[("a", Lane::Second), ("b", Lane::First), ("c", Lane::First)]);
        assert_eq!(turns(&mut queue), ["b", "c", "a"]);
    }

    #[test]
    fn who_waits_and_turns_out_to_miss_something_moves_up() {
        let mut queue = queue(&[("a", Lane::Second), ("b", Lane::Second), ("b", Lane::First)]);
        assert_eq!(turns(&mut queue), ["b", "a"]);
        assert_eq!(queue.depth(), 0);
    }

    #[test]
    fn a_flood_of_creations_does_not_silence_the_others() {
        let mut queue = Queue::new(2);
        queue.order(1000, Lane::Second);
        for item in 0..100 {
            queue.order(item, Lane::First);
        }
        let now = Instant::now();
        let turn = (1..=100).find(|_| queue.begin(now) == Some(1000));
        assert_eq!(turn, Some(64));
    }

    #[test]
    fn the_second_lane_has_so_many_turns_at_a_time_and_no_more() {
        let mut queue = queue(&[("a", Lane::Second), ("b", Lane::Second), ("c", Lane::Second)]);
        let now = Instant::now();
        assert_eq!((queue.begin(now), queue.begin(now), queue.begin(now)), (Some("a"), Some("b"), None));
        queue.order("d", Lane::First);
        assert_eq!(queue.begin(now), Some("d"), "what is missing does not wait for them");
        queue.end(&"d", None);
        assert_eq!(queue.begin(now), None);
        queue.end(&"a", None);
        assert_eq!(queue.begin(now), Some("c"));
    }

    #[test]
    fn while_something_is_made_the_second_lane_has_one_turn_at_a_time() {
        let mut queue = queue(&[("a", Lane::First), ("b", Lane::Second), ("c", Lane::Second)]);
        let now = Instant::now();
        assert_eq!((queue.begin(now), queue.begin(now), queue.begin(now)), (Some("a"), Some("b"), None));
        queue.end(&"a", None);
        assert_eq!(queue.begin(now), Some("c"));
    }

    #[test]
    fn something_that_is_made_and_hangs_does_not_hold_up_the_second_lane() {
        let mut queue = queue(&[("a", Lane::First), ("b", Lane::Second), ("c", Lane::Second)]);
        let now = Instant::now();
        assert_eq!(queue.begin(now), Some("a"));
        let then = now + HANGS - Duration::from_millis(1);
        assert_eq!((queue.begin(then), queue.begin(then)), (Some("b"), None));
        assert_eq!(queue.next_due(then), Some(now + HANGS));
        assert_eq!(queue.begin(now + HANGS), Some("c"));
    }

    #[test]
    fn turns_that_hang_keep_nobody_waiting() {
        let mut queue = queue(&[("a", Lane::Second), ("b", Lane::Second), ("c", Lane::Second)]);
        let now = Instant::now();
        assert_eq!((queue.begin(now), queue.begin(now), queue.begin(now)), (Some("a"), Some("b"), None));
        assert_eq!(queue.next_due(now), Some(now + SLOW));
        assert_eq!(queue.begin(now + SLOW), Some("c"));
    }

    #[test]
    fn nobody_has_two_turns_at_a_time() {
        let mut queue = queue(&[("a", Lane::Second)]);
        let now = Instant::now();
        assert_eq!(queue.begin(now), Some("a"));
        queue.order("a", Lane::Second);
        assert_eq!(queue.begin(now), None);
        queue.end(&"a", None);
        assert_eq!(queue.begin(now), Some("a"));
    }

    #[test]
    fn a_turn_that_was_asked_for_comes_when_it_is_due() {
        let mut queue = queue(&[("a", Lane::Second)]);
        let now = Instant::now();
        let due = now + Duration::from_secs(5);
        queue.begin(now).unwrap();
        queue.end(&"a", Some(due));
        assert_eq!((queue.begin(now), queue.next_due(now)), (None, Some(due)));
        assert_eq!((queue.begin(due), queue.next_due(due)), (Some("a"), None));
    }

    #[test]
    fn an_earlier_turn_takes_the_place_of_one_that_was_asked_for() {
        let mut queue = queue(&[("a", Lane::Second)]);
        let now = Instant::now();
        queue.begin(now).unwrap();
        queue.end(&"a", Some(now + Duration::from_secs(5)));
        queue.order("a", Lane::Second);
        assert_eq!(turns(&mut queue), ["a"]);
        assert_eq!(queue.next_due(now), None);
    }
}
