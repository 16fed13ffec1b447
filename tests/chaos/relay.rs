//! The relay before a member: it takes the connections that others make to it, and passes on what [`Net`] lets pass.
//!
//! - What passes keeps its order, and is delayed without being held up by what is behind it.
//! - A connection whose maker is not known, because it has ended meanwhile, is closed.

use std::{collections::VecDeque, future::pending, io, net::SocketAddr, pin::pin, sync::Arc};

use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

use crate::{
    net::{Net, Way},
    sockets,
};

/// Bytes that are read at once.
const PIECE_BYTES: usize = 16 << 10;
/// Pieces that are on their way in one direction of a connection; while there are more, nothing is read.
const PIECES_MAX: usize = 64;

/// Relays to one member until it is dropped.
pub(crate) struct Relay(JoinHandle<()>);

impl Relay {
    /// Takes connections at `listen` for the member at place `to`, who listens at `target`.
    pub(crate) async fn start(net: Arc<Net>, to: usize, listen: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        Ok(Self(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((inbound, _)) = accepted else { continue };
                        connections.spawn(relay(Arc::clone(&net), to, inbound, target));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        })))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How one direction of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// By one of its ends.
    Closed,
    /// By the relay, without a farewell.
    Broken,
}

async fn relay(net: Arc<Net>, to: usize, mut inbound: TcpStream, target: SocketAddr) -> io::Result<()> {
    let (maker, own) = (inbound.peer_addr()?, inbound.local_addr()?);
    let processes = net.processes();
    let owner = tokio::task::spawn_blocking(move || sockets::owner(&processes, maker, own)).await?;
    let Some(from) = owner else { return Ok(()) };
    let mut outbound = TcpStream::connect(target).await?;
    inbound.set_nodelay(true)?;
    outbound.set_nodelay(true)?;
    let ending = {
        let (read_in, write_in) = inbound.split();
        let (read_out, write_out) = outbound.split();
        let there = pin!(pass(read_in, write_out, net.way(from, to)));
        let back = pin!(pass(read_out, write_in, net.way(to, from)));
        tokio::select! { ending = there => ending, ending = back => ending }
    };
    if ending == Ending::Broken {
        inbound.set_zero_linger()?;
        outbound.set_zero_linger()?;
    }
    Ok(())
}

/// What is on its way in one direction.
struct Passing {
    pieces: VecDeque<(Instant, Vec<u8>)>,
    /// No more will come.
    ended: bool,
    carried_bytes: u64,
    dice: Xoshiro256PlusPlus,
}

impl Passing {
    /// A piece comes in; it does not overtake.
    fn add(&mut self, piece: &[u8], way: &Way) {
        let due = Instant::now() + way.takes(&mut self.dice);
        let due = self.pieces.back().map_or(due, |(before, _)| due.max(*before));
        self.pieces.push_back((due, piece.to_vec()));
    }

    /// The next piece, or what of it is carried before the way is cut.
    fn take(&mut self, way: &Way) -> Option<(Vec<u8>, bool)> {
        let (_, mut piece) = self.pieces.pop_front()?;
        let left = way.cut_after_bytes.map_or(u64::MAX, |cut| cut.saturating_sub(self.carried_bytes));
        let whole = piece.len() as u64 <= left;
        if !whole {
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        }
        self.carried_bytes += piece.len() as u64;
        Some((piece, whole))
    }

    /// Returns when the next piece is due.
    async fn due(&self) {
        match self.pieces.front() {
            Some((due, _)) => sleep_until(*due).await,
            None => pending().await,
        }
    }
}

/// Passes on what is read until an end closes it, or the way is broken.
async fn pass(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut way: watch::Receiver<Way>) -> Ending {
    let begun = *way.borrow();
    let dice = Xoshiro256PlusPlus::seed_from_u64(rand::random());
    let mut passing = Passing { pieces: VecDeque::new(), ended: false, carried_bytes: 0, dice };
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let now = *way.borrow_and_update();
        if now.was_broken_since(&begun) {
            return Ending::Broken;
        }
        if passing.ended && passing.pieces.is_empty() && !now.blocked {
            return Ending::Closed;
        }
        tokio::select! {
            changed = way.changed() => if changed.is_err() { return Ending::Closed },
            () = passing.due(), if !now.blocked => {
                let Some((piece, whole)) = passing.take(&now) else { continue };
                if to.write_all(&piece).await.is_err() {
                    return Ending::Closed;
                }
                if !whole {
                    return Ending::Broken;
                }
            }
            read = from.read(&mut buffer), if !passing.ended && passing.pieces.len() < PIECES_MAX => match read {
                Ok(0) | Err(_) => passing.ended = true,
                Ok(count) => passing.add(&buffer[..count], &now),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::{block, break_off};

    /// A relay from this process, as member 0, to a listener of this process, as member 1.
    async fn connected() -> (Arc<Net>, Relay, TcpStream, TcpStream) {
        let net = Net::new();
        net.runs(0, Some(std::process::id()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = crate::harness::free_port();
        let relay = Relay::start(Arc::clone(&net), 1, listen, listener.local_addr().unwrap()).await.unwrap();
        let near = TcpStream::connect(listen).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (net, relay, near, far)
    }

    async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 100];
        let count = stream.read(&mut buffer).await?;
        Ok(buffer[..count].to_vec())
    }

    #[tokio::test]
    async fn a_blocked_way_holds_back_one_direction_until_it_is_healed() {
        let (net, _relay, mut near, mut far) = connected().await;
        net.change(0, 1, block);
        near.write_all(b"there").await.unwrap();
        far.write_all(b"back").await.unwrap();
        assert_eq!(read(&mut near).await.unwrap(), b"back");
        let nothing = tokio::time::timeout(Duration::from_millis(100), read(&mut far)).await;
        assert!(nothing.is_err(), "{nothing:?}");
        net.heal();
        assert_eq!(read(&mut far).await.unwrap(), b"there");
    }

    #[tokio::test]
    async fn a_broken_way_resets_its_connections() {
        let (net, _relay, mut near, mut far) = connected().await;
        near.write_all(b"there").await.unwrap();
        assert_eq!(read(&mut far).await.unwrap(), b"there");
        net.change(1, 0, break_off);
        assert_eq!(read(&mut near).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(read(&mut far).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_way_that_is_cut_carries_so_many_bytes() {
        let (net, _relay, mut near, mut far) = connected().await;
        net.change(0, 1, |way| way.cut_after_bytes = Some(3));
        near.write_all(b"there").await.unwrap();
        let mut came = Vec::new();
        let end = far.read_to_end(&mut came).await;
        // What a reset overtakes is lost.
        assert!(came.len() <= 3 && b"there".starts_with(&came) && end.is_err(), "{came:?} {end:?}");
    }

    #[tokio::test]
    async fn a_delay_keeps_the_order_and_a_close_comes_last() {
        let (net, _relay, mut near, mut far) = connected().await;
        net.change(0, 1, |way| (way.delay, way.jitter) = (Duration::from_millis(5), Duration::from_millis(20)));
        for number in 0..50_u8 {
            near.write_all(&[number]).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(near);
        let mut came = Vec::new();
        far.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, (0..50).collect::<Vec<_>>());
    }
}
