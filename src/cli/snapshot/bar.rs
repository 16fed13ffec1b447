//! How far a long piece of work is, for people who wait.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// The bar, in characters.
const WIDTH: u64 = 30;
/// Work that is done before this is not worth a bar; then it moves this often.
const INTERVAL: Duration = Duration::from_millis(200);

/// A bar on standard error, if that is a terminal.
#[derive(Debug)]
pub(super) struct Bar {
    /// When it moves next; never without a terminal.
    next: Option<Instant>,
    drawn: bool,
    total: u64,
}

impl Bar {
    /// `total`: how much there is to do.
    pub(super) fn new(total: u64) -> Self {
        Self { next: io::stderr().is_terminal().then(|| Instant::now() + INTERVAL), drawn: false, total: total.max(1) }
    }

    /// Shows that `done` of it is done.
    pub(super) fn show(&mut self, what: &str, done: u64) {
        if self.next.is_none_or(|next| Instant::now() < next) {
            return;
        }
        self.next = Some(Instant::now() + INTERVAL);
        self.drawn = true;
        // Nobody misses a bar when standard error is gone.
        let _ = write!(io::stderr(), "\r{}", line(what, done, self.total));
    }
}

/// The bar leaves no trace.
impl Drop for Bar {
    fn drop(&mut self) {
        if self.drawn {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    let done = done.min(total);
    let part = |of: u64| usize::try_from(u128::from(done) * u128::from(of) / u128::from(total)).unwrap_or(0);
    let filled = part(WIDTH);
    let empty = usize::try_from(WIDTH).unwrap_or(0) - filled;
    format!("{what:<10} [{}{}] {:>3} %", "#".repeat(filled), " ".repeat(empty), part(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_long_at_the_start_as_at_the_end() {
        let cases = [(0, "  0 %", 0), (50, " 25 %", 7), (200, "100 %", 30), (999, "100 %", 30)];
        for (done, percent, filled) in cases {
            let line = line("loading", done, 200);
            assert!(line.ends_with(percent) && line.matches('#').count() == filled, "{line:?}");
            assert_eq!(line.len(), 49, "{line:?}");
        }
    }
}
