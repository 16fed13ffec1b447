//! What a connection's first bytes are.

use std::{io, time::Duration};

use tokio::{net::TcpStream, time::timeout};

use crate::config::Wire;

/// The first byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Looks at the first byte without taking it. A client that stays silent may wait for the server to speak, which no TLS
/// client does: `silent_is_plain` says whether it is let through.
///
/// # Errors
/// The connection failed, or ended or timed out before its first byte.
pub(crate) async fn detect(stream: &TcpStream, limit: Duration, silent_is_plain: bool) -> io::Result<Wire> {
    let mut first = [0];
    match timeout(limit, stream.peek(&mut first)).await {
        Err(_) if silent_is_plain => Ok(Wire::Raw),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
        Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(Ok(_)) => Ok(if first[0] == TLS_HANDSHAKE { Wire::Tls } else { Wire::Raw }),
        Ok(Err(error)) => Err(error),
    }
}
