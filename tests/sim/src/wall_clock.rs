//! Wall clocks, of which each member has its own.
//!
//! Owns: what they show: where each stood when the run began, how fast it goes, and how far it has been set since.
//!
//! - No two members agree about the time of day, and no lease may depend on it.
//! - A clock goes on while its member is down: it is the machine's.
//! - Who asks is known by the runtime that they run in; everybody who is no member has the true time.
//! - It says nothing of how long something took: it may be set while a run goes on.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::runtime::{Handle, Id};

/// The true time at a run's beginning, since 1970.
const EPOCH: Duration = Duration::from_hours(500_000);
/// Most by which a clock is wrong at first, either way.
const OFFSET_MAX: Duration = Duration::from_hours(1);
/// Most by which it is faster or slower than time, parts of a million.
const DRIFT_PPM_MAX: i64 = 50_000;

thread_local! {
    /// How long the run has gone on.
    static ELAPSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    /// The clocks of the members that run, by what they run in.
    static SHOWN: RefCell<Vec<(Id, WallClock)>> = const { RefCell::new(Vec::new()) };
}

/// One member's. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct WallClock {
    drift_ppm: i64,
    /// How far from the true time it has been set, nanoseconds; what it gains by itself is not counted.
    set_by: Arc<AtomicI64>,
}

/// Begins a run on this thread.
pub(crate) fn begin() {
    ELAPSED.set(Duration::ZERO);
    SHOWN.take();
}

/// Moves all of this thread's on, to so long after the run's beginning.
pub(crate) fn all_at(elapsed: Duration) {
    ELAPSED.set(elapsed);
}

/// What whoever asks here and now is shown, since 1970.
pub(crate) fn shown() -> Duration {
    let here = Handle::try_current().ok().map(|runtime| runtime.id());
    SHOWN.with_borrow(|shown| {
        let clock = shown.iter().find(|(runtime, _)| Some(*runtime) == here);
        clock.map_or_else(|| EPOCH + ELAPSED.get(), |(_, clock)| clock.shows())
    })
}

impl WallClock {
    /// Of the member of this number.
    pub(crate) fn new(seed: u64, number: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed.rotate_left(16) ^ number as u64);
        let most = nanoseconds(OFFSET_MAX);
        let set_by = Arc::new(AtomicI64::new(rng.random_range(-most..=most)));
        Self { drift_ppm: rng.random_range(-DRIFT_PPM_MAX..=DRIFT_PPM_MAX), set_by }
    }

    /// Has it shown to whoever runs in this runtime, and to nobody else.
    pub(crate) fn show_here(&self) {
        let here = Handle::current().id();
        SHOWN.with_borrow_mut(|shown| {
            shown.retain(|(runtime, clock)| *runtime != here && !Arc::ptr_eq(&clock.set_by, &self.set_by));
            shown.push((here, self.clone()));
        });
    }

    /// Sets it forward or back, for good.
    pub(crate) fn set_by(&self, seconds: i64) {
        self.set_by.fetch_add(seconds * nanoseconds(Duration::from_secs(1)), Ordering::Relaxed);
    }

    fn shows(&self) -> Duration {
        let elapsed = nanoseconds(ELAPSED.get());
        let gained = elapsed / 1_000_000 * self.drift_ppm;
        let shown = nanoseconds(EPOCH) + elapsed + gained + self.set_by.load(Ordering::Relaxed);
        Duration::from_nanos(u64::try_from(shown).expect("no clock is set to before 1970"))
    }
}

fn nanoseconds(span: Duration) -> i64 {
    i64::try_from(span.as_nanos()).expect("a run ends within centuries of 1970")
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn running(clock: &WallClock) -> Runtime {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async { clock.show_here() });
        runtime
    }

    fn shown_in(runtime: &Runtime) -> Duration {
        runtime.block_on(async { shown() })
    }

    #[test]
    fn a_seed_gives_each_member_a_clock_of_its_own() {
        begin();
        let clocks = [(1, 1), (1, 1), (1, 2), (2, 1)].map(|(seed, number)| WallClock::new(seed, number).shows());
        assert_eq!(clocks[0], clocks[1]);
        assert!(clocks[0] != clocks[2] && clocks[0] != clocks[3], "{clocks:?}");
        assert!(clocks.iter().all(|clock| clock.abs_diff(EPOCH) <= OFFSET_MAX), "{clocks:?}");
    }

    #[test]
    fn a_clock_drifts_and_is_set_for_its_own_member_alone() {
        begin();
        let fast = WallClock { drift_ppm: 1_000, set_by: Arc::default() };
        let slow = WallClock { drift_ppm: -1_000, set_by: Arc::default() };
        let (one, other) = (running(&fast), running(&slow));
        assert_eq!((shown_in(&one), shown_in(&other), shown()), (EPOCH, EPOCH, EPOCH));
        all_at(Duration::from_secs(1_000));
        let after = |seconds| EPOCH + Duration::from_secs(seconds);
        assert_eq!((shown_in(&one), shown_in(&other)), (after(1_001), after(999)));
        slow.set_by(-60);
        assert_eq!((shown_in(&one), shown_in(&other), shown()), (after(1_001), after(939), after(1_000)));
    }

    #[test]
    fn a_clock_goes_with_its_member_when_that_is_started_again() {
        begin();
        let clock = WallClock { drift_ppm: 0, set_by: Arc::default() };
        clock.set_by(7);
        let (before, after) = (running(&clock), running(&clock));
        assert_eq!((shown_in(&before), shown_in(&after)), (EPOCH, EPOCH + Duration::from_secs(7)));
    }
}
