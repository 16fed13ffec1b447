//! One run, from its seed to the verdict.

use std::{
    any::Any,
    collections::BTreeSet,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    thread,
    time::Duration,
};

use turmoil::{Builder, Sim};

use crate::{
    chance, churn,
    clients::{self, Ended},
    history::{Event, History, Report, Told, check},
    nemesis::Nemesis,
    plan::{Plan, Trouble},
    seat::Seat,
    stage::Stage,
    users, verdict, wall_clock, watchers,
};

/// A run whose members do not come to terms in so long after the trouble never will.
const CALM_MAX: Duration = Duration::from_secs(200);
/// Every run has a thread of its own, as deep as a test's main thread.
const STACK_BYTES: usize = 16 << 20;

/// A run in which nothing was wrong.
#[derive(Clone, Debug)]
pub(crate) struct Passed {
    /// What it was like.
    pub(crate) plan: Plan,
    /// Of all that its clients saw, and when: equal for equal runs.
    digest: u64,
    /// How much that was.
    report: Report,
    /// How long it took, by its own clock.
    pub(crate) took: Duration,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { seed, members, troubles, has_users, .. } = &self.plan;
        let Self { digest, report, took, .. } = self;
        let users = if *has_users { "users, " } else { "" };
        write!(f, "seed {seed}: {digest:016x}: {members} members, {users}{troubles:?}, {took:?}: {report}")
    }
}

/// A run in which something was.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// What it was like.
    pub(crate) plan: Plan,
    /// What was wrong.
    pub(crate) what: Vec<String>,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:#?}", self.plan)?;
        self.what.iter().take(10).try_for_each(|what| writeln!(f, "- {what}"))?;
        if self.what.len() > 10 {
            writeln!(f, "- and {} more", self.what.len() - 10)?;
        }
        f.write_str(&again(self.plan.seed))
    }
}

/// How a seed is run again by itself.
pub(crate) fn again(seed: u64) -> String {
    format!("again: MESHSTORE_SIM_SEED={seed} cargo test --workspace --test seeds -- --nocapture")
}

/// Runs the plan of a seed on a thread of its own, after `prepare`: what a run draws by chance is its thread's.
///
/// One process runs one seed: tokio counts the runtimes of a process, and the count is in what it draws.
///
/// # Errors
/// What was wrong.
pub(crate) fn run(seed: u64, prepare: impl FnOnce() + Send + 'static) -> Result<Passed, Box<Failed>> {
    let plan = Plan::of(seed);
    let theirs = plan.clone();
    let run = thread::Builder::new().name(format!("seed-{seed}")).stack_size(STACK_BYTES).spawn(move || {
        chance::begin(theirs.seed);
        prepare();
        play(&theirs)
    });
    let played = match run {
        Ok(run) => run.join().unwrap_or_else(|panicked| Err(vec![format!("panicked: {}", told(&*panicked))])),
        Err(error) => Err(vec![error.to_string()]),
    };
    played.map_err(|what| Box::new(Failed { plan, what }))
}

fn told(panicked: &(dyn Any + Send)) -> String {
    let text = panicked.downcast_ref::<String>().cloned();
    text.or_else(|| panicked.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn play(plan: &Plan) -> Result<Passed, Vec<String>> {
    let mut theatre = Theatre::new(plan);
    theatre.trouble().and_then(|()| theatre.calm()).map_err(|error| vec![error.to_string()])?;
    let Theatre { sim, stage, .. } = theatre;
    let mut history = stage.recorder().history();
    forgive_compacted(&mut history, &stage.compactions());
    let mut wrong = stage.faults();
    wrong.extend(stage.leases().borrow().check(&history));
    wrong.extend(stage.permissions().borrow().check(&history));
    let report = check(&history);
    if let Err(violations) = &report {
        wrong.extend(violations.iter().map(ToString::to_string));
    }
    match report {
        Ok(report) if wrong.is_empty() => {
            Ok(Passed { plan: plan.clone(), digest: digest(&history), report, took: sim.elapsed() })
        }
        _ => Err(wrong),
    }
}

/// What the change at a compacted revision replaced may be gone, as in etcd: a watch that was told so is not held to tell
/// what was before.
fn forgive_compacted(history: &mut History, compactions: &BTreeSet<i64>) {
    for watch in history.watches.iter_mut().filter(|watch| watch.watched.prev) {
        let is_gone = |event: &Event| event.prev.is_none() && compactions.contains(&event.revision);
        if watch.events().any(is_gone) {
            watch.watched.prev = false;
            for (_, told) in &mut watch.told {
                if let Told::Events { events, .. } = told {
                    for event in events {
                        event.prev = None;
                    }
                }
            }
        }
    }
}

fn digest(history: &History) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{history:?}").hash(&mut hasher);
    hasher.finish()
}

/// The cluster and its clients.
struct Theatre<'a> {
    sim: Sim<'a>,
    stage: Stage,
    seats: Vec<Seat>,
}

impl Theatre<'_> {
    fn new(plan: &Plan) -> Self {
        let mut sim = Builder::new()
            .rng_seed(plan.seed)
            .simulation_duration(plan.trouble + CALM_MAX)
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(plan.latency_max)
            .tcp_capacity(4_096)
            .build();
        let seats: Vec<Seat> = (1..=plan.members).map(|number| Seat::founder(number, plan)).collect();
        let stage = Stage::new(plan, &seats);
        for seat in &seats {
            host(&mut sim, seat);
        }
        let mut theatre = Self { sim, stage, seats };
        theatre.clients();
        theatre
    }

    fn clients(&mut self) {
        let plan = self.stage.plan().clone();
        for who in 1..=plan.clients {
            self.until_calm(who, clients::work);
        }
        for who in 101..=102 {
            self.client(who, watchers::observe);
        }
        self.until_calm(201, watchers::glance);
        self.until_calm(301, clients::hold_leases);
        if plan.has(Trouble::Compaction) {
            self.until_calm(401, clients::compact);
        }
        if plan.has(Trouble::Churn) {
            self.until_calm(501, churn::churn);
        }
        if plan.has_users {
            self.until_calm(601, users::administer);
            for who in users::TRYING {
                self.until_calm(who, users::try_out);
            }
            for who in (users::DEFYING..).take(plan.members) {
                self.until_calm(who, users::defy);
            }
        }
    }

    /// A client that acts until all is calm.
    fn until_calm<F: Future<Output = Ended> + 'static>(
        &mut self,
        who: u32,
        act: impl FnOnce(Stage, u32) -> F + 'static,
    ) {
        self.client(who, move |stage, who| stage.clone().until_calm(act(stage, who)));
    }

    fn client<F: Future<Output = Ended> + 'static>(&mut self, who: u32, act: impl FnOnce(Stage, u32) -> F) {
        self.sim.client(format!("c{who}"), act(self.stage.clone(), who));
    }

    fn step(&mut self) -> Result<bool, Box<dyn std::error::Error>> {
        let now = self.sim.elapsed();
        self.stage.set_now(now);
        wall_clock::all_at(now);
        let ended = self.sim.step()?;
        for (number, cluster, member) in self.stage.take_added() {
            let seat = Seat::joiner(number, (cluster, member), self.stage.plan());
            host(&mut self.sim, &seat);
            self.seats.push(seat);
            self.stage.set_seats(&self.seats);
        }
        Ok(ended)
    }

    fn trouble(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let mut nemesis = Nemesis::new(self.stage.plan());
        while self.sim.elapsed() < self.stage.plan().trouble {
            nemesis.act(&mut self.sim, &self.seats, self.stage.now());
            self.step()?;
        }
        nemesis.calm(&mut self.sim, &self.seats);
        Ok(())
    }

    fn calm(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.stage.calm();
        self.client(901, verdict::verify);
        while !self.step()? {}
        Ok(())
    }
}

fn host(sim: &mut Sim<'_>, seat: &Seat) {
    let theirs = seat.clone();
    sim.host(seat.name(), move || theirs.clone().run());
}
