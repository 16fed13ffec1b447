//! The binary `meshstore`.

mod bootstrap;
mod cli;
mod demo;
mod member;

use std::process::ExitCode;

/// Requests are made on one thread and dropped on another: where that is so, this is quicker than the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    demo::lifeline::hold();
    cli::run().await
}
