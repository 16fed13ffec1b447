//! The proxy from outside: real sockets, a real delta ADS server with mTLS, real upstream applications.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a panic, in its helpers too")]

extern crate meshstore_proxy as proxy;

mod app;
mod configuration;
mod identity;
mod mesh;
mod mutual_tls;
mod name_server;
mod names;
mod requests;
mod resources;
mod routing;
mod streams;
