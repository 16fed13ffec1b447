//! The commands of the book.

use std::vec;

const BOOK: &str = include_str!("../../../../docs/operations.md");

/// The commands of one part that are still to be run.
pub(super) struct Commands(vec::IntoIter<String>);

impl Commands {
    /// Those of the parts. No block is in none of them.
    pub(super) fn of_the_book() -> [Self; 2] {
        let parts: Vec<_> = BOOK.split("\n# Part ").map(of_a_part).collect();
        let [before, parts @ ..] = <[_; 3]>::try_from(parts).unwrap();
        assert_eq!(before, [""; 0], "a command is in no part");
        parts.map(|commands| Self(commands.into_iter()))
    }

    /// The next one, which begins like this.
    #[track_caller]
    pub(super) fn next(&mut self, begins: &str) -> String {
        let next = self.0.next().unwrap_or_else(|| panic!("after the last command: {begins}"));
        assert!(next.starts_with(begins), "the book has {next:?} where {begins:?} was expected");
        next
    }

    /// The next so many, which begin like this.
    #[track_caller]
    pub(super) fn all<const COUNT: usize>(&mut self, begins: &str) -> [String; COUNT] {
        std::array::from_fn(|_| self.next(begins))
    }

    /// Nothing is left.
    pub(super) fn end(mut self) {
        assert_eq!(self.0.next(), None, "a command of the book was not run");
    }
}

/// The lines of a part's `sh` blocks, put together where they go on.
fn of_a_part(part: &str) -> Vec<String> {
    // Prose and blocks take turns.
    let pieces: Vec<_> = part.split("\n```").collect();
    assert_eq!(pieces.len() % 2, 1, "a block does not end");
    let mut commands = Vec::new();
    for block in pieces.into_iter().skip(1).step_by(2) {
        match block.split_once('\n') {
            Some(("sh", lines)) => commands.extend(lines.replace("\\\n", " ").lines().map(str::to_owned)),
            // What a command prints.
            Some(("text", _)) => {}
            _ => panic!("a block is neither sh nor text: {block:?}"),
        }
    }
    commands
}

#[test]
fn a_command_is_a_line_or_several_that_go_on() {
    let part = "one\n\nprose\n```sh\na b \\\n    c\nd\n```\nprose\n```text\nshown\n```\n```sh\ne\n```\n";
    assert_eq!(of_a_part(part), ["a b      c", "d", "e"]);
}

#[test]
#[should_panic(expected = "a command of the book was not run")]
fn a_command_that_is_left_fails() {
    let mut book = Commands(vec!["a 1".to_owned(), "b".to_owned()].into_iter());
    assert_eq!(book.next("a "), "a 1");
    book.end();
}
