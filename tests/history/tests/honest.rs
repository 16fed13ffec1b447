//! A store that does everything right, and clients who write down what it does.

use rand::{RngExt, rngs::Xoshiro256PlusPlus};

use crate::history::{
    Event, History, Keys, Outcome, Recorder, Request, Told, Watched,
    recorder::{Call, Opened},
    state::State,
};

const MEMBER: &str = "member";

/// One store, all of whose clients are in this thread.
pub(crate) struct Honest {
    recorder: Recorder,
    state: State,
    watches: Vec<(Opened, Watched)>,
    waiting: Vec<(Call, Request)>,
    executed: Vec<(Call, Outcome)>,
}

impl Honest {
    pub(crate) fn new() -> Self {
        let (watches, waiting, executed) = (Vec::new(), Vec::new(), Vec::new());
        Self { recorder: Recorder::new(|| 0), state: State::default(), watches, waiting, executed }
    }

    pub(crate) fn history(&self) -> History {
        self.recorder.history()
    }

    /// Watches from the present on; `watched` names no revision that has passed.
    pub(crate) fn watch(&mut self, watched: Watched) {
        let opened = self.recorder.watch(99, MEMBER, watched.clone());
        self.recorder.told(opened, Told::Created { revision: self.state.revision });
        self.watches.push((opened, watched));
    }

    /// All watches are told that they have been told everything.
    pub(crate) fn progress(&self) {
        for (opened, _) in &self.watches {
            self.recorder.told(*opened, Told::Progress { revision: self.state.revision });
        }
    }

    /// A call that is answered at once. Past revisions are read of a store that was kept, as it was after one write.
    pub(crate) fn ask(&mut self, request: &Request) {
        let call = self.recorder.call(1, MEMBER, request.clone());
        let outcome = self.happen(request);
        self.recorder.returned(call, outcome);
    }

    /// A call that happens, and whose answer is lost.
    pub(crate) fn unanswered(&mut self, request: &Request) {
        let call = self.recorder.call(1, MEMBER, request.clone());
        self.happen(request);
        self.recorder.returned(call, Outcome::Unknown("the answer is lost".into()));
    }

    /// A call that is lost itself.
    pub(crate) fn lost(&self, request: Request) {
        let call = self.recorder.call(1, MEMBER, request);
        self.recorder.returned(call, Outcome::Unknown("the call is lost".into()));
    }

    pub(crate) fn refused(&self, request: Request) {
        let call = self.recorder.call(1, MEMBER, request);
        self.recorder.returned(call, Outcome::Failed("refused".into()));
    }

    /// Something is done, by whomever, and watchers are told.
    pub(crate) fn happen(&mut self, request: &Request) -> Outcome {
        if let Request::Range { keys, revision, limit, .. } = request
            && *revision > 0
        {
            return self.past(keys, *revision, *limit);
        }
        let (response, events) = self.state.run(request);
        for (opened, watched) in &self.watches {
            let wanted = events.iter().filter(|event| watched.wants(event)).cloned();
            let events: Vec<_> =
                wanted.map(|event| Event { prev: event.prev.filter(|_| watched.prev), ..event }).collect();
            if !events.is_empty() {
                self.recorder.told(*opened, Told::Events { revision: response.revision, events });
            }
        }
        Outcome::Answered(response)
    }

    /// What was there at a revision, by all that watch 0 was told until then.
    fn past(&self, keys: &Keys, revision: i64, limit: i64) -> Outcome {
        let mut then = State::default();
        let told: Vec<_> =
            self.history().watches[0].events().filter(|event| event.revision <= revision).cloned().collect();
        then.apply(&told);
        let read = Request::Range { keys: keys.clone(), revision: 0, serializable: false, limit };
        let mut response = then.run(&read).0;
        response.revision = self.state.revision;
        Outcome::Answered(response)
    }

    /// A client asks, and waits.
    pub(crate) fn call(&mut self, client: u32, request: Request) {
        let call = self.recorder.call(client, MEMBER, request.clone());
        self.waiting.push((call, request));
    }

    /// Any of those who wait is served, but not told.
    pub(crate) fn execute(&mut self, dice: &mut Xoshiro256PlusPlus) {
        if self.waiting.is_empty() {
            return;
        }
        let (call, request) = self.waiting.swap_remove(dice.random_range(0..self.waiting.len()));
        let outcome = self.happen(&request);
        self.executed.push((call, outcome));
    }

    /// Any of those who were served is told, or told nothing of use.
    pub(crate) fn reply(&mut self, dice: &mut Xoshiro256PlusPlus) {
        if self.executed.is_empty() {
            return;
        }
        let (call, outcome) = self.executed.swap_remove(dice.random_range(0..self.executed.len()));
        let lost = dice.random_range(0..8) == 0;
        let outcome = if lost { Outcome::Unknown("the answer is lost".into()) } else { outcome };
        self.recorder.returned(call, outcome);
    }
}
