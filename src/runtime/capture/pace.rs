//! Runtime, capture: what to read in a stop so that all stops together are short. Arithmetic on what
//! was measured while the target ran.

use std::time::Duration;

/// What reading one goroutine and its stack takes in a stop.
const ONE: Duration = Duration::from_micros(2);

/// How many in a thousand may be left unproved for the sake of a shorter stop.
const UNPROVED: f64 = 0.001;

/// How much of the target is read in a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// All gs and all stacks.
    Everything,
    /// All gs, and the stacks of those that changed: nothing is left to be proved.
    AllGs,
    /// Goroutines that are expected to have moved.
    Hot,
}

/// What is known before a stop.
#[derive(Clone, Copy, Debug)]
pub struct Forecast {
    /// Goroutines.
    pub gs: usize,
    /// Those of them that are read in any case.
    pub hot: usize,
    /// What a look at all gs takes.
    pub look: Duration,
    /// Goroutines that moved for the first time, per second.
    pub moving: f64,
    /// Stops that may be made, this one included.
    pub rounds: usize,
    /// The longest that it may be.
    pub limit: Option<Duration>,
}

impl Forecast {
    /// What to read.
    pub fn extent(&self) -> Extent {
        let one = |n: f64| ONE.mul_f64(n.clamp(0.0, 1e9));
        let hot = one(self.hot as f64);
        // Those that will move between the base and the check: what one round leaves unproved.
        let residue = |stop: Duration| self.moving * (self.look + stop).as_secs_f64();
        let left = residue(hot);
        let rounds = if left < 1.0 { hot } else { hot.saturating_mul(self.rounds as u32) };
        let all = self.look + hot + one(self.moving * self.look.as_secs_f64());
        let too_long = self.limit.is_some_and(|limit| all > limit);
        let converges = left < 1.0 || left <= self.gs as f64 * UNPROVED;
        if !too_long && (all < rounds || !converges) { Extent::AllGs } else { Extent::Hot }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn parked() -> Forecast {
        Forecast { gs: 100_000, hot: 20, look: 8 * MS, moving: 0.0, rounds: 3, limit: None }
    }

    #[test]
    fn what_is_parked_is_proved_afterwards() {
        assert_eq!(parked().extent(), Extent::Hot);
        let many = Forecast { gs: 1_000_000, look: 90 * MS, ..parked() };
        assert_eq!(many.extent(), Extent::Hot);
    }

    #[test]
    fn few_that_move_take_more_rounds_and_many_one_whole_look() {
        let one_percent = Forecast { hot: 80, moving: 1_000.0, ..parked() };
        assert_eq!(one_percent.extent(), Extent::Hot);
        let ten_percent = Forecast { hot: 900, moving: 12_500.0, ..parked() };
        assert_eq!(ten_percent.extent(), Extent::AllGs);
        let busy = Forecast { hot: 20_000, moving: 0.0, ..parked() };
        assert_eq!(busy.extent(), Extent::Hot, "they are read in either case");
    }

    #[test]
    fn a_small_target_is_looked_at_whole_when_that_is_shorter() {
        let small = Forecast { gs: 10_000, hot: 400, look: MS, moving: 5_000.0, rounds: 3, limit: None };
        assert_eq!(small.extent(), Extent::AllGs);
        assert_eq!(Forecast { limit: Some(MS), ..small }.extent(), Extent::Hot, "a limit comes first");
    }
}
