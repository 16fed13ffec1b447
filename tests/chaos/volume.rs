//! Disks of a test's own: small ones that fill up, and ones that can lose their power.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    harness::Ability,
    machine::{able, run},
};

/// A file system of its own, unmounted when dropped.
pub(crate) struct Volume {
    folder: TempDir,
    kind: Kind,
}

enum Kind {
    /// In memory, of a fixed size.
    Small,
    /// ext4 on a loop device; both of them, to mount it again.
    Ext4 { device: String },
}

/// Bytes of an ext4, of which only what is written takes room.
const EXT4_BYTES: u64 = 512 << 20;

impl Volume {
    /// A tmpfs of so many bytes; `None` where this may not be mounted, which is said.
    pub(crate) fn small(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = run("mount", &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", text(folder.path())]);
        able(Ability::MOUNT, mounted).map(|_| Self { folder, kind: Kind::Small })
    }

    /// An ext4 whose power can be cut; `None` where there are no loop devices for us, which is said.
    pub(crate) fn ext4() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (image, mount) = (folder.path().join("image"), folder.path().join("mounted"));
        File::create(&image).unwrap().set_len(EXT4_BYTES).unwrap();
        std::fs::create_dir(&mount).unwrap();
        let device = able(Ability::LOOP, run("losetup", &["--find", "--show", text(&image)]))?;
        let made = run("mkfs.ext4", &["-q", &device]).and_then(|_| run("mount", &[&device, text(&mount)]));
        let volume = Self { folder, kind: Kind::Ext4 { device } };
        able(Ability::LOOP, made).map(|_| volume)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        match self.kind {
            Kind::Small => self.folder.path().to_owned(),
            Kind::Ext4 { .. } => self.folder.path().join("mounted"),
        }
    }

    /// From this instant on nothing comes to the disk any more; what was not synced is lost. Everything else on it fails.
    pub(crate) fn cut_power(&self) {
        // EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written. Python, which the tests use
        // anyway, makes system calls without a line of unsafe code here.
        const SHUTDOWN: &str = "import fcntl, os, struct, sys\n\
            fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
        run("python3", &["-c", SHUTDOWN, text(&self.path())]).unwrap();
    }

    /// What the disk holds is there again. Nobody uses it.
    pub(crate) fn power_on(&self) {
        let Kind::Ext4 { device } = &self.kind else { panic!("this disk has no power") };
        run("umount", &[text(&self.path())]).unwrap();
        run("mount", &[device, text(&self.path())]).unwrap();
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // What fails here was never mounted. Processes that end at the same time let go a moment later: hence lazily.
        let _ = run("umount", &["--lazy", text(&self.path())]);
        if let Kind::Ext4 { device } = &self.kind {
            let _ = run("losetup", &["--detach", device]);
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn what_was_not_synced_is_lost_with_the_power() {
    let Some(volume) = Volume::ext4() else { return };
    let (synced, unsynced) = (volume.path().join("synced"), volume.path().join("unsynced"));
    std::fs::write(&synced, "1").unwrap();
    File::open(&synced).unwrap().sync_all().unwrap();
    File::open(volume.path()).unwrap().sync_all().unwrap();
    std::fs::write(&unsynced, "1").unwrap();
    volume.cut_power();
    assert!(std::fs::write(volume.path().join("later"), "1").is_err());
    volume.power_on();
    assert!(synced.exists() && !unsynced.exists());
}
