//! Small checked types. A value of one of them has passed its check, whether it was built by the planner or decoded
//! from a hostile wire: their decoders call the same constructors.
use alloc::{string::String, string::ToString, vec::Vec};
use core::fmt;

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode, impl_borrow_decode};

use crate::MAX_PATH;

/// Names a value that one operation defines and later ones use: a descriptor, a detached mount, a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct Slot(pub u16);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Encode)]
        pub struct $name(String);

        impl $name {
            /// Checks the rule of the type; the error is the reason in words.
            pub fn new(text: impl Into<String>) -> Result<Self, &'static str> {
                let text = text.into();
                $check(&text).map(|()| Self(text))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<C> Decode<C> for $name {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                Self::new(String::decode(decoder)?).map_err(DecodeError::Other)
            }
        }
        impl_borrow_decode!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

checked_string!(
    /// A path below the container's root: relative, no `.`, no `..`, no empty component. Empty is the root itself.
    RelPath,
    check_rel_path
);
checked_string!(
    /// An absolute path of the host. It occurs in host operations only, which is where the policy looks.
    HostPath,
    check_host_path
);
checked_string!(
    /// An absolute path as the payload sees it; used by `chdir` after the root has changed.
    GuestPath,
    check_host_path
);
checked_string!(
    /// A container id: `[A-Za-z0-9_+.-]`, 1 to 255 bytes, not `.` or `..` (runc's alphabet; it names a directory).
    ContainerId,
    check_id
);
checked_string!(
    /// Text without NUL bytes, which system calls would cut it at.
    Text,
    check_text
);

fn check_rel_path(path: &str) -> Result<(), &'static str> {
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > MAX_PATH {
        return Err("the path is longer than 4096 bytes");
    }
    for part in path.split('/') {
        match part {
            "" => return Err("the path has an empty component or is absolute"),
            "." | ".." => return Err("the path has a `.` or `..` component"),
            part if part.len() > 255 => return Err("a path component is longer than 255 bytes"),
            part if part.contains('\0') => return Err("the path has a NUL byte"),
            _ => {}
        }
    }
    Ok(())
}

fn check_host_path(path: &str) -> Result<(), &'static str> {
    match path {
        path if !path.starts_with('/') => Err("the path is not absolute"),
        path if path.len() >= MAX_PATH => Err("the path is longer than 4095 bytes"),
        path if path.contains('\0') => Err("the path has a NUL byte"),
        _ => Ok(()),
    }
}

fn check_id(id: &str) -> Result<(), &'static str> {
    match id {
        "" => Err("a container id must not be empty"),
        "." | ".." => Err("a container id must not be `.` or `..`"),
        id if id.len() > 255 => Err("a container id has at most 255 characters"),
        id if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+-.".contains(&b)) => {
            Err("a container id has only letters, digits and `_+-.`")
        }
        _ => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), &'static str> {
    if text.contains('\0') { Err("the text has a NUL byte") } else { Ok(()) }
}

/// A path without `.`, `..`, and doubled or leading slashes, `..` stopping at the root.
pub fn normalized(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl RelPath {
    /// The container's root itself.
    pub fn root() -> Self {
        Self(String::new())
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that it is in; the root is in itself.
    pub fn parent(&self) -> Self {
        Self(self.0.rsplit_once('/').map_or("", |(above, _)| above).to_string())
    }

    /// Whether `other` is this path, or below it.
    pub fn leads_to(&self, other: &Self) -> bool {
        let rest = other.0.strip_prefix(&self.0);
        rest.is_some_and(|rest| rest.is_empty() || self.is_root() || rest.starts_with('/'))
    }

    /// The path as the payload names it.
    pub fn absolute(&self) -> String {
        let mut path = "/".to_string();
        path.push_str(&self.0);
        path
    }
}

/// Where an operation works: a path beneath a mount that an earlier operation made.
///
/// It is looked up from that mount, not from the root by name: a neighbour that shares the root filesystem and renames
/// `proc` while the container starts cannot have a mask miss it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Target {
    /// The whole path, from the container's root.
    pub path: RelPath,
    pub mount: Slot,
    /// How many bytes of it lead to the mount.
    pub above: u16,
}

impl Target {
    /// The path beneath the mount; empty is the mount itself. `None` if the target makes no sense.
    pub fn beneath(&self) -> Option<&str> {
        let (above, rest) = self.path.as_str().split_at_checked(self.above.into())?;
        if above.is_empty() || rest.is_empty() { Some(rest) } else { rest.strip_prefix('/') }
    }

    /// The path as the payload names it.
    pub fn absolute(&self) -> String {
        self.path.absolute()
    }
}

/// A user or group id that the kernel can set: any `u32` but 2^32-1, which means "leave as it is" to setresuid(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode)]
pub struct Id(u32);

impl Id {
    pub const ROOT: Id = Id(0);

    pub fn new(id: u32) -> Result<Self, &'static str> {
        if id == u32::MAX { Err("4294967295 is not an id: to the kernel it means \"unchanged\"") } else { Ok(Self(id)) }
    }

    pub fn raw(self) -> u32 {
        self.0
    }
}

impl<C> Decode<C> for Id {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::new(u32::decode(decoder)?).map_err(DecodeError::Other)
    }
}
impl_borrow_decode!(Id);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rel_paths_stay_below_the_root() {
        for good in ["", "a", "a/b", "...", "a/..b"] {
            assert!(RelPath::new(good).is_ok(), "{good:?}");
        }
        for bad in ["/a", "a//b", "a/", ".", "..", "a/..", "../a", "a/./b", "a\0b"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn rel_paths_lead_to_what_is_below() {
        let path = |text: &str| RelPath::new(text).unwrap();
        for (above, below, leads) in
            [("", "a", true), ("a", "a", true), ("a", "a/b", true), ("a", "ab", false), ("a/b", "a", false)]
        {
            assert_eq!(path(above).leads_to(&path(below)), leads, "{above:?} {below:?}");
        }
        for (path_of, parent) in [("a/b/c", "a/b"), ("a", ""), ("", "")] {
            assert_eq!(path(path_of).parent(), path(parent));
        }
    }

    #[test]
    fn decoding_checks_what_construction_checks() {
        let config = bincode::config::standard();
        let hostile = bincode::encode_to_vec("../etc".to_string(), config).unwrap();
        assert!(bincode::decode_from_slice::<RelPath, _>(&hostile, config).is_err());
        let max = bincode::encode_to_vec(u32::MAX, config).unwrap();
        assert!(bincode::decode_from_slice::<Id, _>(&max, config).is_err());
    }

    #[test]
    fn container_ids_follow_runc() {
        for good in ["a", "A_b+c-d.e", "..."] {
            assert!(ContainerId::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", &"x".repeat(256)] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
    }
}
