//! What the demo tells people: progress, hints and results, on standard output.
//!
//! - Colour on a terminal only, and never when `NO_COLOR` is set.
//! - A closed output loses the text, never the demo.

use std::{
    env,
    io::{IsTerminal, Write, stdout},
    time::{Duration, Instant},
};

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Console {
    colour: bool,
}

impl Console {
    /// For this process's standard output.
    pub(crate) fn stdout() -> Self {
        Self { colour: stdout().is_terminal() && env::var_os("NO_COLOR").is_none() }
    }

    /// Whether the output may be coloured.
    pub(crate) fn is_coloured(self) -> bool {
        self.colour
    }

    /// A title, set apart from what is above.
    pub(crate) fn heading(self, text: &str) {
        self.line(&format!("\n{}", self.paint(BOLD, text)));
    }

    /// Plain text.
    #[expect(clippy::unused_self, reason = "where a console writes to is its own matter, not its callers'")]
    pub(crate) fn line(self, text: &str) {
        // A reader that has gone away is no reason to end the mesh.
        let _ = writeln!(stdout().lock(), "{text}");
    }

    /// Something that was done, and how long it took.
    pub(crate) fn done(self, what: &str, since: Instant) {
        let took = self.paint(DIM, &milliseconds(since.elapsed()));
        self.line(&format!("  {} {what} {took}", self.paint(GREEN, "✓")));
    }

    /// Something that went as it should.
    pub(crate) fn passed(self, what: &str) {
        self.line(&format!("  {} {what}", self.paint(GREEN, "✓")));
    }

    /// Something that did not go as it should.
    pub(crate) fn failed(self, what: &str) {
        self.line(&format!("  {} {what}", self.paint(RED, "✗")));
    }

    /// Text in bold.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(BOLD, text)
    }

    fn paint(self, style: &str, text: &str) -> String {
        if self.colour { format!("\u{1b}[{style}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// For people: below ten milliseconds with one decimal, above without.
pub(crate) fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}
