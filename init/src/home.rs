//! HOME, where config.json does not give it: from the container's /etc/passwd, as runc and crun do.
//!
//! Looked up with the payload's rights, before its filter is on; what can go wrong ends in `/`.
use alloc::{format, string::String};
use core::ffi::CStr;

use rspawn_sys::{Fd, file};

/// Bytes that are read of it at most: an image must not keep its start waiting.
const MOST: usize = 64 << 10;

/// The entry for an environment that has no HOME, or an empty one, in whose place it goes.
pub fn missing_home(env: &[&'static CStr], uid: u32) -> Option<String> {
    let has_home = |entry: &&CStr| entry.to_bytes().strip_prefix(b"HOME=").is_some_and(|home| !home.is_empty());
    if env.iter().any(has_home) {
        return None;
    }
    let home = file::open_plainly("/etc/passwd").ok().and_then(|passwd| find(&passwd, uid));
    Some(format!("HOME={}", home.as_deref().unwrap_or("/")))
}

fn find(passwd: &Fd, uid: u32) -> Option<String> {
    let mut text = alloc::vec![0u8; MOST];
    let mut length = 0;
    while let Ok(more @ 1..) = passwd.read(&mut text[length..]) {
        length += more;
    }
    text[..length].split(|byte| *byte == b'\n').find_map(|line| home_of(line, uid))
}

/// The home directory of a passwd(5) line, if the line is the user's.
fn home_of(line: &[u8], uid: u32) -> Option<String> {
    let line = core::str::from_utf8(line).ok()?;
    let mut fields = line.split(':');
    let id: u32 = fields.nth(2)?.parse().ok()?;
    let home = fields.nth(2)?;
    (id == uid && !home.is_empty()).then(|| home.into())
}

#[cfg(test)]
mod tests {
    use super::home_of;

    #[test]
    fn homes_are_found_by_number() {
        assert_eq!(home_of(b"a:x:1000:100:A, B:/home/a:/bin/sh", 1000).as_deref(), Some("/home/a"));
        assert_eq!(home_of(b"a:x:1000:100::/home/a", 1000).as_deref(), Some("/home/a"));
        for other in ["a:x:1001:100::/home/a:", "a:x:1000:100::", "a:x:1000", "", "# 1000", "a:x:1000:1:::/bin/sh"] {
            assert_eq!(home_of(other.as_bytes(), 1000), None, "{other}");
        }
    }
}
