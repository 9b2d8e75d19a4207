//! Which replica is asked. PURE.

use super::pulse::Silence;
use crate::settings::balancing::Mode;

/// Whether the breaker of a replica lets a request pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// All of them.
    Open,
    /// One, for a trial.
    Trial,
    /// None.
    Shut,
}

/// What a choice goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Candidate {
    /// Whether it is on this pod.
    pub is_own: bool,
    /// Whether it has as many requests as it may.
    pub is_full: bool,
    /// Whether this request was sent to it before.
    pub was_tried: bool,
    /// What the checks say over time.
    pub is_healthy: bool,
    /// What the last of them said.
    pub passed_last_check: bool,
    /// What its breaker says.
    pub gate: Gate,
    /// Whether it gives signs of life.
    pub silence: Silence,
}

/// How good a candidate is; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Nothing speaks against it, as far as it gives signs of life.
    Usable(Silence),
    /// For when there is no better one: better than no answer, should the checks be wrong.
    Doubtful,
    /// It had this request before.
    Tried,
    /// It had this request before, and is no good.
    TriedAndDoubtful,
}

impl Rank {
    /// The worst that is asked where this is the best of all, of those that are full, too: what is too much
    /// for those that are well waits for them, rather than going to one that fails. A short silence is no
    /// reason to wait; it has one of any that is busy.
    fn worst_beside(self) -> Self {
        match self {
            Self::Usable(Silence::Long) => self,
            Self::Usable(_) => Self::Usable(Silence::Short),
            _ => Self::TriedAndDoubtful,
        }
    }
}

impl Candidate {
    /// How good it is.
    #[must_use]
    pub fn rank(&self) -> Rank {
        let is_usable = self.is_healthy
            && match self.gate {
                Gate::Open => true,
                // A trial costs a request; where the check has just failed it is known how that ends.
                Gate::Trial => self.passed_last_check,
                Gate::Shut => false,
            };
        match (self.was_tried, is_usable) {
            (false, true) => Rank::Usable(self.silence),
            (false, false) => Rank::Doubtful,
            (true, true) => Rank::Tried,
            (true, false) => Rank::TriedAndDoubtful,
        }
    }
}

/// Which of the candidates is asked: by turns among the best of those that are not full; none if it is better
/// to wait for one of those that are.
#[must_use]
pub fn choose(mode: Mode, candidates: &[Candidate], turn: usize) -> Option<(usize, Rank)> {
    let worst = candidates.iter().map(Candidate::rank).min()?.worst_beside();
    let may = |candidate: &Candidate| !candidate.is_full && candidate.rank() <= worst;
    let free = || candidates.iter().enumerate().filter(|(_, candidate)| may(candidate));
    if mode == Mode::OwnFirst {
        let own = free()
            .find(|(_, candidate)| candidate.is_own && candidate.rank() <= Rank::Usable(Silence::Short));
        if let Some((index, own)) = own {
            return Some((index, own.rank()));
        }
    }
    let best = free().map(|(_, candidate)| candidate.rank()).min()?;
    let of_the_best = || free().filter(|(_, candidate)| candidate.rank() == best);
    // Among these alone, or the one that follows one that is left out would get twice its share.
    let chosen = turn % of_the_best().count().max(1);
    of_the_best().nth(chosen).map(|(index, _)| (index, best))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WELL: Candidate = Candidate {
        is_own: false,
        is_full: false,
        was_tried: false,
        is_healthy: true,
        passed_last_check: true,
        gate: Gate::Open,
        silence: Silence::None,
    };

    fn counts(mode: Mode, candidates: &[Candidate]) -> Vec<usize> {
        let mut counts = vec![0; candidates.len()];
        for turn in 0..60 {
            if let Some((index, _)) = choose(mode, candidates, turn) {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn all_that_are_well_get_the_same_share_and_others_none() {
        let sick = Candidate { is_healthy: false, ..WELL };
        let open = Candidate { gate: Gate::Shut, ..WELL };
        let full = Candidate { is_full: true, ..WELL };
        let silent = Candidate { silence: Silence::Long, ..WELL };
        let tried = Candidate { was_tried: true, ..WELL };
        let trial = Candidate { gate: Gate::Trial, ..WELL };
        let hopeless = Candidate { passed_last_check: false, ..trial };
        let mixed = [WELL, sick, open, WELL, full, silent, tried, trial, hopeless];
        assert_eq!(counts(Mode::RoundRobin, &mixed), [20, 0, 0, 20, 0, 0, 0, 20, 0]);
        assert_eq!(counts(Mode::RoundRobin, &[WELL; 3]), [20; 3]);
    }

    #[test]
    fn where_none_is_well_all_are_asked_rather_than_none() {
        let sick = Candidate { is_healthy: false, ..WELL };
        let open = Candidate { gate: Gate::Shut, ..WELL };
        assert_eq!(counts(Mode::RoundRobin, &[sick, open]), [30, 30]);
        let full = Candidate { is_full: true, ..WELL };
        assert_eq!(choose(Mode::RoundRobin, &[full, full], 0), None, "which waits");
    }

    #[test]
    fn the_own_comes_first_by_choice_unless_it_is_not_well_or_full() {
        let own = Candidate { is_own: true, ..WELL };
        assert_eq!(counts(Mode::OwnFirst, &[WELL, own, WELL]), [0, 60, 0]);
        assert_eq!(counts(Mode::RoundRobin, &[WELL, own, WELL]), [20, 20, 20]);
        for own in [
            Candidate { is_healthy: false, ..own },
            Candidate { gate: Gate::Shut, ..own },
            Candidate { is_full: true, ..own },
            Candidate { was_tried: true, ..own },
            Candidate { silence: Silence::Long, ..own },
        ] {
            assert_eq!(counts(Mode::OwnFirst, &[WELL, own, WELL]), [30, 0, 30], "{own:?}");
        }
    }

    #[test]
    fn what_is_too_much_for_those_that_are_well_waits_rather_than_going_to_one_that_is_not() {
        let full = Candidate { is_full: true, ..WELL };
        for bad in [
            Candidate { is_healthy: false, ..WELL },
            Candidate { gate: Gate::Shut, ..WELL },
            Candidate { silence: Silence::Long, ..WELL },
            Candidate { was_tried: true, ..WELL },
        ] {
            for mode in [Mode::RoundRobin, Mode::OwnFirst] {
                assert_eq!(choose(mode, &[full, bad], 0), None, "{bad:?}");
            }
            let full = Candidate { is_full: true, ..bad };
            assert!(choose(Mode::RoundRobin, &[full, bad], 0).is_some());
        }
        let busy = Candidate { silence: Silence::Short, ..WELL };
        assert_eq!(choose(Mode::RoundRobin, &[full, busy], 0), Some((1, busy.rank())));
    }

    fn candidate() -> impl Strategy<Value = Candidate> {
        let gate = prop_oneof![Just(Gate::Open), Just(Gate::Trial), Just(Gate::Shut)];
        let silence = prop_oneof![Just(Silence::None), Just(Silence::Short), Just(Silence::Long)];
        (any::<[bool; 4]>(), any::<bool>(), gate, silence).prop_map(|(is, passed, gate, silence)| Candidate {
            is_own: is[0],
            is_full: is[1],
            was_tried: is[2],
            is_healthy: is[3],
            passed_last_check: passed,
            gate,
            silence,
        })
    }

    proptest! {
        #[test]
        fn nothing_better_is_left_out_and_one_waits_only_for_what_is_better_than_all_that_are_free(
            candidates in proptest::collection::vec(candidate(), 0..8), turn: usize
        ) {
            match choose(Mode::RoundRobin, &candidates, turn) {
                None => {
                    let ranks = |full: bool| {
                        let those = candidates.iter().filter(move |candidate| candidate.is_full == full);
                        those.map(Candidate::rank).min()
                    };
                    let (full, free) = (ranks(true), ranks(false));
                    prop_assert!(free.is_none_or(|free| full.is_some_and(
                        |full| matches!(full, Rank::Usable(_)) && full < free
                    )));
                }
                Some((index, rank)) => {
                    let chosen = candidates[index];
                    prop_assert!(!chosen.is_full && chosen.rank() == rank);
                    let mut others = candidates.iter().filter(|other| !other.is_full);
                    prop_assert!(others.all(|other| other.rank() >= rank));
                    let is_usable = |candidate: &Candidate| matches!(candidate.rank(), Rank::Usable(_));
                    prop_assert!(is_usable(&chosen) || !candidates.iter().any(is_usable));
                }
            }
        }

        #[test]
        fn shares_differ_by_one_at_most(
            candidates in proptest::collection::vec(candidate(), 1..8), start in 0_usize..1000, asked in 1_usize..50
        ) {
            let mut counts = vec![0_usize; candidates.len()];
            for turn in start..start + asked {
                if let Some((index, _)) = choose(Mode::RoundRobin, &candidates, turn) {
                    counts[index] += 1;
                }
            }
            let shares = counts.iter().filter(|count| **count > 0);
            let (least, most) = (shares.clone().min(), shares.max());
            prop_assert!(most.zip(least).is_none_or(|(most, least)| most - least <= 1), "{counts:?}");
        }
    }
}
