//! Which program a hook is, where the administrator says which ones may be: judged on the descriptor that is executed.
use alloc::{format, string::String};

use rspawn_proto::hook::Hook;
use rspawn_proto::policy::PathRule;

use crate::file::{self, Status};
use crate::{Failure, Fd, Named, Outcome};

/// A program that may be a hook.
pub enum Program {
    Opened(Fd),
    /// A script, which the kernel would hand to its interpreter as `/dev/fd/N`. Nobody but root can change what is there.
    Script(String),
}

/// Where PATH may lead: what an allowed script calls is not to be found in an image.
const DIRECTORIES: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// What else a hook may be told, without a slash: no other variable is known to lead no loader, interpreter or library to
/// code of somebody else's.
const HARMLESS: [&str; 4] = ["LANG", "LC_ALL", "TZ", "container"];

impl Program {
    /// Opens a hook's program, following links (docker's is `/proc/PID/exe`), and judges where they led.
    pub fn judge(hook: &Hook, allowed: &[PathRule]) -> Outcome<Self> {
        if hook.outputs.iter().any(Option::is_some) {
            return Err(Failure::check("its output may not be written to files where the policy names the hooks"));
        }
        for word in hook.env.iter().flatten() {
            judge_variable(word.as_str())?;
        }
        let (file, place) = open_trusted(hook.path.as_str())?;
        if !allowed.iter().any(|rule| rule.covers(&place)) {
            return Err(Failure::check(&format!("it is {place}")));
        }
        judge_way(&place)?;
        let mut head = [0; 256];
        let length = file.read(&mut head).named("read")?;
        let Some(line) = head[..length].strip_prefix(b"#!") else { return Ok(Self::Opened(file)) };
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let words = core::str::from_utf8(line).map_err(|_| Failure::check("its interpreter's name is not UTF-8"))?;
        let interpreter = words.split_ascii_whitespace().next().unwrap_or_default();
        judge_way(&open_trusted(interpreter)?.1)?;
        Ok(Self::Script(place))
    }
}

fn judge_variable(word: &str) -> Outcome<()> {
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    let is_fine = match name {
        "PATH" => value.split(':').all(|directory| DIRECTORIES.contains(&directory)),
        name => HARMLESS.contains(&name) && !value.contains('/'),
    };
    if is_fine { Ok(()) } else { Err(Failure::check(&format!("its variable {name} may make it run other code"))) }
}

/// A file that root alone can change, and its place.
fn open_trusted(path: &str) -> Outcome<(Fd, String)> {
    let opened = file::open_following(path).named("openat2").map_err(|failure| failure.with(path))?;
    let place = file::fd_path(&opened).named("readlinkat")?;
    let found = file::status(&opened).named("statx")?;
    // A file of another mount namespace has a place there: `/proc/PID/root` leads to a container's own programs.
    let here = file::open_host(&place, file::O_PATH).and_then(|here| file::status(&here)).named("openat2");
    let here = here.map_err(|failure| failure.with(place.as_str()))?;
    if !here.is_same(&found) || here.mount != found.mount {
        return Err(Failure::check(&format!("it is {place} of other mounts than the host's")));
    }
    if !found.is(libc::S_IFREG) {
        return Err(Failure::check(&format!("{place} is not a regular file")));
    }
    judge_owner(&found, &place)?;
    Ok((opened, place))
}

/// Whether nobody but root can put something else in a file's place.
fn judge_way(place: &str) -> Outcome<()> {
    let mut way = place;
    while let Some((above, _)) = way.rsplit_once('/') {
        way = above;
        let above = if above.is_empty() { "/" } else { above };
        let directory = file::open_host(above, file::O_PATH | file::O_DIRECTORY).named("openat2")?;
        judge_owner(&file::status(&directory).named("statx")?, above)?;
    }
    Ok(())
}

fn judge_owner(found: &Status, place: &str) -> Outcome<()> {
    // In a user namespace root of the host, which has no id there, is who owns `/`.
    let root = file::open_host("/", file::O_PATH).and_then(|root| file::status(&root)).named("statx")?.uid;
    if found.mode & 0o022 != 0 || !(found.uid == 0 || found.uid == root) {
        return Err(Failure::check(&format!("{place} can be changed by others than root")));
    }
    Ok(())
}
