//! docs/operations.md, as it is written: every command of its `sh` blocks, in the book's order.
//!
//! - All hosts are this one. So an address of the book becomes one of loopback, and the ports that a server or a client takes
//!   by default are set by their variables; nothing else of a command is changed.
//! - What the reader has before a chapter, and no command of the book makes, is made here: an etcd to move from, a store
//!   without space, keys that differ, a host that is lost.

mod cluster;
mod commands;
mod member;
mod site;

use self::commands::Commands;

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_part_one_does_what_it_says() {
    let [mut book, _] = Commands::of_the_book();
    member::story(&mut book).await;
    book.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_part_two_does_what_it_says() {
    let [_, mut book] = Commands::of_the_book();
    cluster::story(&mut book).await;
    book.end();
}
