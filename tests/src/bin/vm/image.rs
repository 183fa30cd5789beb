//! The disks of the machine, and the initramfs that finds the first of them.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::cache::output_of;
use crate::cpio::Archive;
use crate::kernel::Kernel;

/// Loads the modules, mounts the disk, and starts what `init=` says there.
const BOOT: &str = include_str!("guest/boot.sh");

/// Size of the root disk: what the tests write besides what is on it.
const ROOT_DISK: &str = "3G";

/// Where images are made: beside the programs, so that every work tree has its own.
pub fn work_directory() -> Outcome<PathBuf> {
    let me = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = me.ancestors().nth(3).ok_or("not in a target directory: use cargo run")?;
    let directory = target.join("vm");
    fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(directory)
}

/// A file or tree that one boot needs, gigabytes of it: gone with the value, whatever came of the boot.
pub struct Temporary(PathBuf);

impl Temporary {
    /// What is to be made there; what an earlier driver left, which was killed, goes now.
    pub fn at(path: PathBuf) -> Self {
        remove(&path);
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Whichever of the two it is; nothing if there is none.
fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// An empty directory.
pub fn fresh(directory: &Path) -> Outcome<()> {
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))
}

/// In the order of their names there: the root, one for swap, and one to be slowed down.
pub fn disks(directory: &Path, root: &Path) -> Outcome<Vec<Temporary>> {
    let disk = Temporary::at(directory.join("root.img"));
    let mut mke2fs = Command::new("mke2fs");
    // No journal: the disk lives as long as one boot.
    mke2fs.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-d"]);
    output_of(mke2fs.arg(root).arg(disk.path()).arg(ROOT_DISK))?;
    let mut disks = vec![disk];
    for (name, size) in [("swap.img", 256 << 20), ("slow.img", 64 << 20)] {
        let disk = Temporary::at(directory.join(name));
        let made = fs::File::create(disk.path()).and_then(|file| file.set_len(size));
        made.map_err(|error| format!("{}: {error}", disk.path().display()))?;
        disks.push(disk);
    }
    Ok(disks)
}

pub fn initramfs(directory: &Path, kernel: &Kernel, stand_in: Option<PathBuf>) -> Outcome<PathBuf> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut archive = Archive::default();
    for path in ["bin", "dev", "proc", "root", "modules"] {
        archive.directory(path);
    }
    archive.file("bin/busybox", 0o755, &read(&busybox()?)?);
    archive.file("init", 0o755, BOOT.as_bytes());
    for (number, module) in kernel.modules()?.iter().chain(&stand_in).enumerate() {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{number:02}-{name}"), 0o644, &read(module)?);
    }
    let path = directory.join("initramfs");
    fs::write(&path, archive.finish()).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

pub fn busybox() -> Outcome<PathBuf> {
    let places = ["/usr/bin/busybox", "/bin/busybox"];
    places.into_iter().map(PathBuf::from).find(|path| path.exists()).ok_or("busybox-static is not installed".into())
}
