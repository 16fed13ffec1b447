//! Free ports of 127.0.0.1 for processes that are about to start.
//!
//! - A port handed out is outside the kernel's ephemeral range, so that no outgoing connection takes it before its
//!   process binds it; and none is handed out twice.
//! - Ports come in blocks, and whoever uses a block listens at its first port for as long: two demos that start at once
//!   never hand out the same port.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::bail;
use rand::RngExt;

/// Where to look, when the kernel's ephemeral range leaves it free. It starts at 32768 by default.
const FIRST: u16 = 16_000;
const BLOCKS: u16 = 250;
const BLOCK_PORTS: u16 = 64;
/// Attempts before giving up: most blocks are in use.
const ATTEMPTS_MAX: usize = 10_000;

/// Hands out ports; see the module.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    /// Held, so that others keep off their blocks.
    claims: Vec<TcpListener>,
    left: Vec<u16>,
}

impl Ports {
    /// An address nobody listens on now.
    pub(crate) fn next(&mut self) -> anyhow::Result<SocketAddr> {
        for _ in 0..ATTEMPTS_MAX {
            match self.left.pop().map(loopback) {
                Some(address) if TcpListener::bind(address).is_ok() => return Ok(address),
                Some(_) => {}
                None => self.claim(),
            }
        }
        bail!("no free port from {FIRST} on 127.0.0.1")
    }

    /// Takes a block, if the one that is looked at is free.
    fn claim(&mut self) {
        let first = FIRST + BLOCK_PORTS * rand::rng().random_range(0..BLOCKS);
        if let Ok(claim) = TcpListener::bind(loopback(first)) {
            self.claims.push(claim);
            self.left.extend((first + 1..first + BLOCK_PORTS).rev());
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_never_the_same() {
        let mut ports = Ports::default();
        // A process that another test starts meanwhile holds what is bound here until its own program begins.
        let bind = |address| {
            let mut attempts = (0..200).map(|_| {
                std::thread::sleep(std::time::Duration::from_millis(5));
                TcpListener::bind(address)
            });
            attempts.find_map(Result::ok).unwrap()
        };
        let listeners: Vec<_> = (0..50).map(|_| bind(ports.next().unwrap())).collect();
        assert_eq!(listeners.len(), 50);
    }
}
