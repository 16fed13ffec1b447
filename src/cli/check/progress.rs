//! A bar on a terminal, and nothing elsewhere.

use std::io::{self, IsTerminal, Write};

/// Cells of the bar.
const WIDTH: u64 = 40;

/// How much of something is done.
#[derive(Debug)]
pub(super) struct Progress {
    total: u64,
    shown: Option<u64>,
    visible: bool,
}

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        Self { total: total.max(1), shown: None, visible: io::stderr().is_terminal() }
    }

    /// Draws the bar anew when its percentage has changed.
    pub(super) fn show(&mut self, done: u64) -> io::Result<()> {
        let percent = done.min(self.total) * 100 / self.total;
        if !self.visible || self.shown == Some(percent) {
            return Ok(());
        }
        self.shown = Some(percent);
        let mut stderr = io::stderr().lock();
        write!(stderr, "\r{} {percent:3} %  {done} / {}", bar(percent), self.total)?;
        stderr.flush()
    }

    /// Ends the line.
    pub(super) fn end(&self) -> io::Result<()> {
        if self.visible && self.shown.is_some() { writeln!(io::stderr()) } else { Ok(()) }
    }
}

fn bar(percent: u64) -> String {
    let full = percent * WIDTH / 100;
    (0..WIDTH).map(|cell| if cell < full { '=' } else { ' ' }).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_grows_from_nothing_to_its_width() {
        assert_eq!(bar(0).trim_end(), "");
        assert_eq!(bar(50), format!("{}{}", "=".repeat(20), " ".repeat(20)));
        assert_eq!(bar(100), "=".repeat(40));
    }
}
