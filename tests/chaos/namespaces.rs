//! Members on machines of their own, as far as the network goes: a namespace each, joined by a bridge.
//!
//! - What is lost here is lost by the kernel: connections are neither refused nor broken, they hear nothing, and begin to
//!   send again when they do.
//! - Everything but one link of this process's own lies in namespaces, which go when this is dropped.

use std::{
    net::{IpAddr, Ipv4Addr},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{
    harness::Ability,
    machine::{able, run},
};

/// Bits of the network that the members share.
const PREFIX: u8 = 24;
/// A member's only link.
const LINK: &str = "eth0";
/// Nobody's: what is sent there reaches nobody.
const NOBODY: &str = "02:00:00:00:00:01";

/// A network for members, who are known by their places.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// What all names begin with.
    name: String,
    members: usize,
    network: [u8; 3],
}

impl Namespaces {
    /// `None` where the machine does not allow it, which is said.
    pub(crate) fn build(members: usize) -> Option<Self> {
        static BUILT: AtomicU32 = AtomicU32::new(0);
        let (process, number) = (process::id(), BUILT.fetch_add(1, Ordering::Relaxed));
        let network = [10, 213, u8::try_from((process + number) % 250).unwrap()];
        let namespaces = Self { name: format!("net{number}p{process}"), members, network };
        able(Ability::NAMESPACES, namespaces.connect()).map(|()| namespaces)
    }

    fn connect(&self) -> Result<(), String> {
        let (hub, outside) = (self.hub(), &self.name);
        run("ip", &["netns", "add", &hub])?;
        run("ip", &["-n", &hub, "link", "add", "bridge", "type", "bridge"])?;
        run("ip", &["-n", &hub, "link", "set", "bridge", "up"])?;
        run("ip", &["link", "add", outside, "type", "veth", "peer", "name", "outside", "netns", &hub])?;
        run("ip", &["-n", &hub, "link", "set", "outside", "master", "bridge", "up"])?;
        run("ip", &["address", "add", &format!("{}/{PREFIX}", self.address(self.members)), "dev", outside])?;
        run("ip", &["link", "set", outside, "up"])?;
        for at in 0..self.members {
            let (member, port) = (self.member(at), port(at));
            let address = format!("{}/{PREFIX}", self.address(at));
            run("ip", &["netns", "add", &member])?;
            run("ip", &["-n", &member, "link", "set", "lo", "up"])?;
            run("ip", &["-n", &member, "link", "add", LINK, "type", "veth", "peer", "name", &port, "netns", &hub])?;
            run("ip", &["-n", &member, "address", "add", &address, "dev", LINK])?;
            run("ip", &["-n", &member, "link", "set", LINK, "up"])?;
            run("ip", &["-n", &hub, "link", "set", &port, "master", "bridge", "up"])?;
        }
        Ok(())
    }

    fn hub(&self) -> String {
        format!("{}hub", self.name)
    }

    fn member(&self, at: usize) -> String {
        format!("{}m{at}", self.name)
    }

    /// Where a member is; at the place after the last, this process.
    pub(crate) fn address(&self, at: usize) -> IpAddr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, u8::try_from(at + 1).unwrap()).into()
    }

    /// What becomes a member's process there.
    pub(crate) fn within(&self, at: usize) -> [String; 4] {
        ["ip", "netns", "exec", &self.member(at)].map(str::to_owned)
    }

    /// A member's cable is out: nothing to or from it, its clients included.
    pub(crate) fn unplug(&self, at: usize) {
        self.change(&["-n", &self.hub(), "link", "set", &port(at), "down"]);
    }

    /// Nothing that one member sends reaches the other.
    pub(crate) fn silence(&self, from: usize, to: usize) {
        let to = self.address(to).to_string();
        let words = ["neighbour", "replace", &to, "lladdr", NOBODY, "nud", "permanent", "dev", LINK];
        self.change(&[&["-n", &self.member(from)], &words[..]].concat());
    }

    /// What is sent to a member goes through a narrow pipe, and much of it is lost before.
    pub(crate) fn narrow(&self, at: usize) {
        let words =
            ["qdisc", "replace", "dev", &port(at), "root", "tbf", "rate", "2mbit", "burst", "8kb", "latency", "5ms"];
        run("tc", &[&["-n", &self.hub()], &words[..]].concat()).unwrap();
    }

    /// Everything passes.
    pub(crate) fn heal(&self) {
        for at in 0..self.members {
            self.change(&["-n", &self.hub(), "link", "set", &port(at), "up"]);
            self.change(&["-n", &self.member(at), "neighbour", "flush", "all", "nud", "permanent"]);
            // It fails where there is no pipe.
            let _ = run("tc", &["-n", &self.hub(), "qdisc", "delete", "dev", &port(at), "root"]);
        }
    }

    fn change(&self, words: &[&str]) {
        run("ip", words).unwrap_or_else(|error| panic!("{self:?}: {error}"));
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What fails here was never made. The link of this process goes with its other end.
        for namespace in (0..self.members).map(|at| self.member(at)).chain([self.hub()]) {
            let _ = run("ip", &["netns", "delete", &namespace]);
        }
    }
}

/// Where the bridge takes a member's cable.
fn port(at: usize) -> String {
    format!("port{at}")
}

#[test]
fn what_is_silenced_or_unplugged_is_not_heard_until_it_is_healed() {
    const LISTEN: &str = "import socket, sys; listener = socket.create_server((sys.argv[1], 7000))\n\
        while True: listener.accept()";
    const CONNECT: &str = "import socket, sys; socket.create_connection((sys.argv[1], 7000), 1)";
    let Some(namespaces) = Namespaces::build(2) else { return };
    let listening = namespaces.address(0).to_string();
    let python =
        |at, script| [&namespaces.within(at)[..], &["python3", "-c", script, &listening].map(str::to_owned)].concat();
    let listener = python(0, LISTEN);
    let mut listener = process::Command::new(&listener[0]).args(&listener[1..]).spawn().unwrap();
    let connect = python(1, CONNECT);
    let connect: Vec<_> = connect.iter().map(String::as_str).collect();
    let hears = || run(connect[0], &connect[1..]).is_ok();
    let healed = || (0..50).any(|_| hears());

    assert!(healed(), "the listener is heard");
    namespaces.silence(1, 0);
    assert!(!hears(), "a connection was made by who is not heard");
    namespaces.heal();
    assert!(healed());
    namespaces.silence(0, 1);
    assert!(!hears(), "a connection was made with who is not heard");
    namespaces.heal();
    assert!(healed());
    namespaces.unplug(0);
    assert!(!hears(), "a connection was made without a cable");
    namespaces.heal();
    assert!(healed());
    listener.kill().unwrap();
    listener.wait().unwrap();
}
