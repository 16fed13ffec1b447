//! The binary `meshstore`.

mod bootstrap;
mod cli;
mod demo;
mod member;
mod memory;

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    demo::lifeline::hold();
    cli::run().await
}
