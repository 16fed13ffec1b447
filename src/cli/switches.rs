//! Switches as etcdctl takes them: `--prefix`, and `--prefix=false` too.

use clap::{ArgAction, Command};

/// Lets every switch of a command and of its subcommands take a value.
pub(crate) fn with_values(command: Command) -> Command {
    let command = command.mut_args(|argument| match argument.get_action() {
        ArgAction::SetTrue => argument
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("BOOL"),
        _ => argument,
    });
    command.mut_subcommands(with_values)
}
