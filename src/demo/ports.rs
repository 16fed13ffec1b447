//! Free ports of 127.0.0.1 for processes that are about to start.
//!
//! - A port handed out is outside the kernel's ephemeral range, so that no outgoing connection takes it before its
//!   process binds it; and none is handed out twice.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use anyhow::bail;
use rand::RngExt;

/// Where to look, when the kernel's ephemeral range leaves it free. It starts at 32768 by default.
const FIRST: u16 = 16_000;
const LAST: u16 = 32_000;
/// Attempts before giving up: most ports of the range are in use.
const ATTEMPTS_MAX: usize = 10_000;

/// Hands out ports; see the module.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    taken: HashSet<u16>,
}

impl Ports {
    /// An address nobody listens on now.
    pub(crate) fn next(&mut self) -> anyhow::Result<SocketAddr> {
        for _ in 0..ATTEMPTS_MAX {
            let port = rand::rng().random_range(FIRST..=LAST);
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if !self.taken.contains(&port) && TcpListener::bind(address).is_ok() {
                self.taken.insert(port);
                return Ok(address);
            }
        }
        bail!("no free port between {FIRST} and {LAST} on 127.0.0.1")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_never_the_same() {
        let mut ports = Ports::default();
        let listeners: Vec<_> = (0..50).map(|_| TcpListener::bind(ports.next().unwrap()).unwrap()).collect();
        assert_eq!(listeners.len(), 50);
    }
}
