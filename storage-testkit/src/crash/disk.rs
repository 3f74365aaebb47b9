//! Disks of the tests' own: an image that loses its power, and one that is small.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::tool::{self, compile, run};
use super::{Failure, Outcome};

/// A file system mounted in a temporary directory, unmounted when dropped.
struct Mount {
    at: PathBuf,
    mounted: bool,
}

impl Mount {
    fn new(at: PathBuf) -> Outcome<Self> {
        std::fs::create_dir(&at).map_err(Failure::broken)?;
        Ok(Self { at, mounted: false })
    }

    fn mount(&mut self, arguments: &[&str], source: &Path) -> Result<(), String> {
        run(Command::new("mount").args(arguments).arg(source).arg(&self.at))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), String> {
        let mut tries = 0;
        // Just after its users were killed the file system may still be busy.
        while let Err(error) = run(Command::new("umount").arg(&self.at)) {
            tries += 1;
            if tries == 100 {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            let _ = run(Command::new("umount").arg("--lazy").arg(&self.at));
        }
    }
}

/// An ext4 file system in an image file, whose power can be cut.
///
/// What it shows is the loss of everything that is not on the disk yet: cached pages and the file system's
/// uncommitted journal. It does not tear sectors, nor reorder what the drive itself has cached.
pub(super) struct Image {
    // Before the directory that it is in, so that it is unmounted first.
    mount: Mount,
    image: PathBuf,
    cut: PathBuf,
    _directory: TempDir,
}

impl Image {
    pub(super) fn new(bytes: u64) -> Outcome<Self> {
        let directory = tempfile::tempdir().map_err(Failure::broken)?;
        let cut = compile(directory.path(), "cut", tool::CUT, &[])?;
        let image = directory.path().join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(bytes)).map_err(Failure::broken)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image)).map_err(needs)?;
        let mount = Mount::new(directory.path().join("mount"))?;
        let mut made = Self { mount, image, cut, _directory: directory };
        made.mount().map_err(needs)?;
        // A kernel that refuses to cut the power is found out before anything depends on it.
        made.cut().map_err(needs)?;
        made.recover()?;
        Ok(made)
    }

    pub(super) fn path(&self) -> &Path {
        &self.mount.at
    }

    fn mount(&mut self) -> Result<(), String> {
        self.mount.mount(&["-t", "ext4", "-o", "loop"], &self.image)
    }

    /// Cuts the power; the time just before, as [`Ledger::read`](super::ledger::Ledger::read) takes it.
    pub(super) fn cut(&self) -> Result<u64, String> {
        let printed = run(Command::new(&self.cut).arg(self.path()))?;
        printed.trim().parse().map_err(|error| format!("the time of the cut: {error}"))
    }

    /// Brings the power back. Everything that had files open must be gone.
    pub(super) fn recover(&mut self) -> Outcome<()> {
        self.mount.unmount().map_err(Failure::Broken)?;
        self.mount().map_err(Failure::Broken)
    }
}

/// A small file system in memory.
pub(super) struct Small {
    mount: Mount,
    _directory: TempDir,
}

impl Small {
    pub(super) fn new(mebibytes: u32) -> Outcome<Self> {
        let directory = tempfile::tempdir().map_err(Failure::broken)?;
        let mut mount = Mount::new(directory.path().join("mount"))?;
        let options = format!("size={mebibytes}m");
        mount
            .mount(&["-t", "tmpfs", "-o", &options], Path::new("tmpfs"))
            .map_err(|error| Failure::NotRun(format!("it needs root for a tmpfs: {error}")))?;
        Ok(Self { mount, _directory: directory })
    }

    pub(super) fn path(&self) -> &Path {
        &self.mount.at
    }
}

fn needs(error: String) -> Failure {
    Failure::NotRun(format!("it needs root, a loop device and mkfs.ext4: {error}"))
}
