//! HOME, where config.json does not give it: from the container's /etc/passwd, as runc and crun do.
//!
//! Looked up with the payload's rights and under its filter; what can go wrong ends in `/`.
use alloc::format;
use alloc::string::String;
use core::ffi::CStr;

use rspawn_sys::{Fd, file};

/// Longest line that is understood, and most that is read: an image must not keep its start waiting.
const LONGEST_LINE: usize = 1024;
const MOST_CHUNKS: usize = 256;

/// The entry to add to an environment that has no HOME, or an empty one.
pub fn missing_home(env: &[&'static CStr], uid: u32) -> Option<String> {
    let has_home = |entry: &&CStr| entry.to_bytes().strip_prefix(b"HOME=").is_some_and(|home| !home.is_empty());
    if env.iter().any(has_home) {
        return None;
    }
    let home = file::open_plainly("/etc/passwd").ok().and_then(|passwd| find(&passwd, uid));
    Some(format!("HOME={}", home.as_deref().unwrap_or("/")))
}

fn find(passwd: &Fd, uid: u32) -> Option<String> {
    let mut chunk = [0u8; 4096];
    let mut line = [0u8; LONGEST_LINE];
    // The line's length; beyond its space it only counts.
    let mut length = 0;
    for _ in 0..MOST_CHUNKS {
        let filled = match passwd.read(&mut chunk) {
            Ok(0) | Err(_) => return home_of(line.get(..length)?, uid),
            Ok(filled) => filled,
        };
        for byte in &chunk[..filled] {
            if *byte != b'\n' {
                line.get_mut(length).into_iter().for_each(|place| *place = *byte);
                length += 1;
                continue;
            }
            if let Some(home) = line.get(..length).and_then(|line| home_of(line, uid)) {
                return Some(home);
            }
            length = 0;
        }
    }
    None
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
