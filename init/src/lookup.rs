//! Finding the payload's program, and saying why it cannot be executed.
use alloc::{format, string::String, string::ToString, vec, vec::Vec};
use core::ffi::CStr;

use rspawn_sys::file::Status;
use rspawn_sys::process::StringArray;
use rspawn_sys::{Errno, Failure, Outcome, file, process};

/// The payload as it was given: arguments and environment.
pub struct Payload<'a> {
    pub argv: &'a [&'static CStr],
    pub env: &'a [&'static CStr],
}

/// What there is to execute.
pub struct FoundProgram {
    /// Usually one. What a look-up was not let say of comes before the first that is sure: execve tells.
    paths: Vec<String>,
    /// The beginning of the last one, if it is a file that may be read: [`explain`] is for when nothing may be.
    head: Vec<u8>,
}

impl Payload<'_> {
    /// The path to execute. A name without a slash is looked up in the payload's own PATH. The error texts are runc's,
    /// which podman and docker match on.
    pub fn find(&self) -> Outcome<FoundProgram> {
        let name = self.argv.first().and_then(|word| word.to_str().ok()).unwrap_or_default();
        let failed = |errno: Errno, detail: String| Err(Failure::of("exec", errno).with(detail));
        if name.contains('/') {
            let reason = match usable(name) {
                Ok(found) => return Ok(FoundProgram::of(vec![name.to_string()], found.is(libc::S_IFREG))),
                Err(errno) if is_unknown(errno) => return Ok(FoundProgram::of(vec![name.to_string()], false)),
                Err(Errno::ENOENT) => format!("stat {name}: no such file or directory"),
                Err(Errno::ENOTDIR) => format!("stat {name}: not a directory"),
                Err(Errno::ELOOP) => format!("stat {name}: too many levels of symbolic links"),
                Err(Errno::EISDIR) => "is a directory: permission denied".to_string(),
                Err(Errno::EACCES) => "permission denied".to_string(),
                Err(errno) => return failed(errno, format!("exec: {name:?}")),
            };
            return failed(Errno(0), format!("exec: {name:?}: {reason}"));
        }
        let path = self.env.iter().filter_map(|entry| entry.to_str().ok()?.strip_prefix("PATH=")).next();
        let mut denied = false;
        let mut paths = Vec::new();
        for directory in path.unwrap_or_default().split(':').filter(|_| !name.is_empty()) {
            let directory = if directory.is_empty() { "." } else { directory };
            let candidate = format!("{directory}/{name}");
            match usable(&candidate) {
                Ok(found) => {
                    paths.push(candidate);
                    return Ok(FoundProgram::of(paths, found.is(libc::S_IFREG)));
                }
                Err(errno) if is_unknown(errno) => paths.push(candidate),
                Err(errno) => denied |= errno == Errno::EACCES,
            }
        }
        if !paths.is_empty() {
            return Ok(FoundProgram::of(paths, false));
        }
        let reason = if denied { "permission denied" } else { "executable file not found in $PATH" };
        failed(Errno(0), format!("exec: {name:?}: {reason}"))
    }

    /// The environment, in which an entry for HOME takes the place of an empty one.
    pub fn environment(&self, home: Option<&str>) -> rspawn_sys::Result<StringArray> {
        let kept = |entry: &&&CStr| home.is_none() || !entry.to_bytes().starts_with(b"HOME=");
        let entries: Vec<&'static CStr> = self.env.iter().filter(kept).copied().collect();
        let mut environment = StringArray::from_start(&entries);
        home.map_or(Ok(()), |entry| environment.push(entry))?;
        Ok(environment)
    }
}

/// A look-up that was refused as a call, by a filter around rspawn: it says nothing of the file.
fn is_unknown(errno: Errno) -> bool {
    matches!(errno, Errno::EPERM | Errno::ENOSYS)
}

impl FoundProgram {
    /// Becomes it. On failure, errno and what it means.
    pub fn execute(&self, argv: &StringArray, env: &StringArray) -> (Errno, String) {
        let mut failed = (Errno::ENOENT, "");
        for path in &self.paths {
            failed = (process::execute(path, argv, env), path);
            // What was unknown is now known not to be it.
            if !matches!(failed.0, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) {
                break;
            }
        }
        (failed.0, explain(failed.1, &self.head, failed.0))
    }

    /// The last path is a file, as far as that is known: to open anything else may have an effect.
    fn of(paths: Vec<String>, is_file: bool) -> Self {
        let mut head = vec![0u8; if is_file { 4096 } else { 0 }];
        let mut read = |path: &String| file::open_plainly(path).and_then(|program| program.read(&mut head));
        // Without it the explanation has less to say.
        let length = paths.last().filter(|_| is_file).and_then(|path| read(path).ok()).unwrap_or(0);
        head.truncate(length);
        Self { paths, head }
    }
}

fn usable(path: &str) -> Result<Status, Errno> {
    let found = file::may_execute(path)?;
    if found.is_directory() { Err(Errno::EISDIR) } else { Ok(found) }
}

/// Why an existing, executable file with this head could not be executed: execve(2) says ENOENT for a missing
/// interpreter too.
fn explain(path: &str, head: &[u8], errno: Errno) -> String {
    match (errno, interpreter(head)) {
        (Errno::ENOENT, Some(interpreter)) => {
            format!("exec {path}: its interpreter {interpreter} was not found: no such file or directory")
        }
        (Errno::ENOENT, None) => format!("exec {path}: no such file or directory"),
        (Errno::EACCES, _) => format!("exec {path}: permission denied"),
        (Errno::ENOEXEC, _) if head.starts_with(b"\x7fELF") => {
            format!("exec {path}: exec format error: it is a program for another machine")
        }
        (Errno::ENOEXEC, _) => format!("exec {path}: exec format error: it is not a program and has no #! line"),
        _ => format!("exec {path}"),
    }
}

/// The program that executes a file: of its `#!` line, or the dynamic loader that a 64-bit ELF header names.
fn interpreter(head: &[u8]) -> Option<&str> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = core::str::from_utf8(line.split(|byte| *byte == b'\n').next()?).ok()?;
        return line.split_whitespace().next();
    }
    const PT_INTERP: u32 = 3;
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let header = (0..count)
        .map_while(|index| table.checked_add(index.checked_mul(size)?))
        .find(|at| number(*at, 4) == Some(PT_INTERP as usize))?;
    let start = number(header + 8, 8)?;
    let text = head.get(start..)?;
    let end = text.iter().position(|byte| *byte == 0)?;
    core::str::from_utf8(&text[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_found_in_scripts_and_programs() {
        assert_eq!(interpreter(b"#! /bin/sh -e\nexit"), Some("/bin/sh"));
        assert_eq!(interpreter(b"#!"), None);
        assert_eq!(interpreter(b"\x7fELF\x02\x01"), None);
        let mut elf = [0u8; 200];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        (elf[64], elf[72]) = (3, 128);
        elf[128..138].copy_from_slice(b"/lib/ld.so");
        assert_eq!(interpreter(&elf), Some("/lib/ld.so"));
        elf[72..80].fill(0xff);
        assert_eq!(interpreter(&elf), None);
    }
}
