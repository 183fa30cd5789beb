//! This process's mounts, by which a file is recognised under any name: the filesystem that it is on, and its path
//! there (proc_pid_mountinfo(5)).
use alloc::{string::String, string::ToString, vec::Vec};

use rspawn_proto::policy::is_below;
use rspawn_sys::{Failure, Fd, Named, Outcome, file};

pub struct MountTable(Vec<Mount>);

struct Mount {
    number: u64,
    /// What of its filesystem it shows, and where.
    root: DevicePath,
    point: String,
}

/// A filesystem, by its device's numbers, and a path on it.
#[derive(Clone)]
pub struct DevicePath {
    device: String,
    path: String,
}

impl DevicePath {
    /// Whether it is on the same filesystem.
    pub fn is_beside(&self, other: &DevicePath) -> bool {
        self.device == other.device
    }

    /// Whether what lies here is, or shows, what the other is; `below` asks for what lies below that, too.
    pub fn shows(&self, other: &DevicePath, below: bool) -> bool {
        let (own, others) = (self.path.as_str(), other.path.as_str());
        self.is_beside(other) && (own == others || is_below(others, own) || below && is_below(own, others))
    }
}

impl MountTable {
    pub fn read() -> Outcome<Self> {
        let text = file::open_plainly("/proc/self/mountinfo").and_then(|file| file.read_all(MOST)).named("read");
        let text = text.map_err(|failure| failure.with("/proc/self/mountinfo"))?;
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().map(Mount::parse).collect::<Option<_>>();
        lines.map(Self).ok_or_else(|| Failure::check("/proc/self/mountinfo has a line that cannot be read"))
    }

    /// Where an open file lies, whose place is known.
    pub fn device_path(&self, file: &Fd, place: &str) -> Outcome<DevicePath> {
        let number = file::status(file).named("statx")?.mount;
        let mount = self.0.iter().find(|mount| mount.number == number);
        let mount = mount.ok_or_else(|| Failure::check("it is on a mount of another namespace"))?;
        let rest = place.strip_prefix(mount.point.trim_end_matches('/'));
        let rest = rest.ok_or_else(|| Failure::check("its path is not below its mount point"))?;
        let path = mount.root.path.trim_end_matches('/').to_string() + rest;
        Ok(DevicePath { device: mount.root.device.clone(), path })
    }

    /// What is mounted below a place.
    pub fn below(&self, place: &str) -> impl Iterator<Item = &DevicePath> {
        self.0.iter().filter(move |mount| is_below(&mount.point, place)).map(|mount| &mount.root)
    }
}

/// Bytes of the file: a machine with fifty thousand mounts.
const MOST: usize = 16 << 20;

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let number = fields.next()?.parse().ok()?;
        let device = fields.nth(1)?.to_string();
        let path = unescaped(fields.next()?);
        Some(Self { number, root: DevicePath { device, path }, point: unescaped(fields.next()?) })
    }
}

/// Spaces, tabs, line ends and backslashes are written as three octal digits.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .into_iter()
        .fold(text.to_string(), |text, (written, meant)| text.replace(written, meant))
}
