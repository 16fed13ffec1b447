//! The checksum at the end of a snapshot.
//!
//! - It is the SHA-256 of all that is before it. Pages of the file are multiples of [`SECTOR_BYTES`], so that a file
//!   with it is told from one without by its length. Source: etcd `etcdutl/snapshot`.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use sha2::{Digest, Sha256};

use super::SnapshotError;

/// Bytes of the checksum.
pub(super) const DIGEST_BYTES: usize = 32;
const SECTOR_BYTES: u64 = 512;
/// Bytes that are read at once.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// Whether a file of this length ends with a checksum.
pub(super) fn is_signed(bytes: u64) -> bool {
    bytes % SECTOR_BYTES == DIGEST_BYTES as u64
}

/// Compares the checksum with what it stands for. `seen` is told how many bytes were read.
pub(super) fn verify(file: &File, mut seen: impl FnMut(u64)) -> Result<(), SnapshotError> {
    let bytes = file.metadata().map_err(bbolt::Error::Io)?.len();
    if !is_signed(bytes) {
        return Err(SnapshotError::NoDigest);
    }
    let same = compare(file, bytes - DIGEST_BYTES as u64, &mut seen).map_err(bbolt::Error::Io)?;
    if same { Ok(()) } else { Err(SnapshotError::DigestDiffers) }
}

fn compare(mut file: &File, bytes: u64, seen: &mut impl FnMut(u64)) -> io::Result<bool> {
    file.seek(SeekFrom::Start(0))?;
    let digest = digest(file.take(bytes), seen)?;
    let mut expected = [0; DIGEST_BYTES];
    file.read_exact(&mut expected)?;
    Ok(digest == expected)
}

/// The checksum of all that is read.
pub(super) fn digest(mut from: impl Read, seen: &mut impl FnMut(u64)) -> io::Result<[u8; DIGEST_BYTES]> {
    let (mut sha, mut piece, mut total) = (Sha256::new(), vec![0; PIECE_BYTES], 0);
    loop {
        let read = from.read(&mut piece)?;
        if read == 0 {
            return Ok(sha.finalize().into());
        }
        sha.update(&piece[..read]);
        total += read as u64;
        seen(total);
    }
}
