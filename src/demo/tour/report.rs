//! The tour's table: what each step should show, and what it showed.

use std::time::Duration;

use comfy_table::{Cell, Color, ContentArrangement, Table, presets::UTF8_BORDERS_ONLY};

use crate::demo::console::{Console, milliseconds};

/// One step.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) step: &'static str,
    pub(super) expected: String,
    pub(super) measured: String,
    /// From sending the apply call to the first answer of the new route, where the step changed one.
    pub(super) effect: Option<Duration>,
    pub(super) passed: bool,
}

/// All steps so far.
#[derive(Debug)]
pub(super) struct Report {
    console: Console,
    rows: Vec<Row>,
}

impl Report {
    pub(super) fn new(console: Console) -> Self {
        Self { console, rows: Vec::new() }
    }

    /// Takes a row down, and tells of it at once.
    pub(super) fn add(&mut self, row: Row) {
        let line = format!("{}: {}", row.step, row.measured);
        if row.passed {
            self.console.passed(&line);
        } else {
            self.console.failed(&format!("{line} (expected {})", row.expected));
        }
        self.rows.push(row);
    }

    pub(super) fn steps(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn failures(&self) -> usize {
        self.rows.iter().filter(|row| !row.passed).count()
    }

    /// Prints the table.
    pub(super) fn print(&self) {
        self.console.line(&format!("\n{}", self.table()));
        self.console
            .line("  change live: from sending the apply call to the first answer that only the new route can give");
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
        if !self.console.is_coloured() {
            table.force_no_tty().set_width(TABLE_WIDTH);
        }
        table.set_header(["", "step", "expected", "measured", "change live", "result"]);
        for (index, row) in self.rows.iter().enumerate() {
            let (result, color) = if row.passed { ("ok", Color::Green) } else { ("FAILED", Color::Red) };
            table.add_row([
                Cell::new(index + 1),
                Cell::new(row.step),
                Cell::new(&row.expected),
                Cell::new(&row.measured),
                Cell::new(row.effect.map(milliseconds).unwrap_or_default()),
                Cell::new(result).fg(color),
            ]);
        }
        table
    }
}

/// Width where there is no terminal to ask, characters.
const TABLE_WIDTH: u16 = 140;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_row_is_marked_and_counted() {
        let row = |passed| Row {
            step: "a step",
            expected: "this".to_owned(),
            measured: "that".to_owned(),
            effect: Some(Duration::from_micros(3_200)),
            passed,
        };
        let mut report = Report::new(Console::stdout());
        report.add(row(true));
        report.add(row(false));
        assert_eq!((report.steps(), report.failures()), (2, 1));
        let text = report.table().to_string();
        assert_eq!((text.matches("FAILED").count(), text.matches("3.2 ms").count()), (1, 2), "{text}");
    }
}
