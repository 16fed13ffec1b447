//! Whose connection it is that comes in. All members are at 127.0.0.1, and what they say to one another is encrypted: so
//! the kernel is asked.

use std::{fs, net::SocketAddr};

/// Of `processes`, the member whose end of a connection is at `local`, the other end being at `remote`.
pub(crate) fn owner(processes: &[(usize, u32)], local: SocketAddr, remote: SocketAddr) -> Option<usize> {
    let inode = inode(&fs::read_to_string("/proc/net/tcp").ok()?, local, remote)?;
    let socket = format!("socket:[{inode}]");
    processes.iter().find(|(_, process)| has_open(*process, &socket)).map(|(member, _)| *member)
}

/// The socket that `table` has between two addresses. Source: proc(5), `/proc/net/tcp`: a number, the local and the remote
/// address, five more columns, and the tenth.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (in_hex(local)?, in_hex(remote)?);
    table.lines().find_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let found = columns.get(1) == Some(&local.as_str()) && columns.get(2) == Some(&remote.as_str());
        if found { columns.get(9)?.parse().ok() } else { None }
    })
}

/// As the kernel writes an address: the bytes of the address as this machine's number, the port as everybody's.
fn in_hex(address: SocketAddr) -> Option<String> {
    match address {
        SocketAddr::V4(address) => {
            let bytes = u32::from_ne_bytes(address.ip().octets());
            Some(format!("{bytes:08X}:{:04X}", address.port()))
        }
        SocketAddr::V6(_) => None,
    }
}

fn has_open(process: u32, file: &str) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    files.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == file))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_of_the_process_that_made_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_accepted, from) = listener.accept().unwrap();
        let to = listener.local_addr().unwrap();
        let (own, nobodys) = ((7, std::process::id()), (8, u32::MAX));
        assert_eq!(owner(&[nobodys, own], from, to), Some(7));
        assert_eq!(owner(&[nobodys], from, to), None);
        drop(connected);
    }
}
