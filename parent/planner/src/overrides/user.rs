//! `--user=`: numbers, or a name that the container's own user database knows.
//!
//! The database is the image's, so it is read like everything of the image: opened for this process before privileges
//! went, read bounded after, and believed in nothing but what the image decides anyway, which is who its users are. A
//! word of digits is a number and never looked up: an image must not turn uid 1000 into 0 (CVE-2016-3697), and what is
//! no number is no 0 (CVE-2026-30892).
use super::values::number;
use crate::prelude::*;

#[derive(Debug, Clone, PartialEq)]
pub enum UserChoice {
    Ids { uid: u32, gid: u32 },
    Name(String),
}

/// A user as the container's files describe it.
#[derive(Debug, PartialEq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: Option<String>,
}

/// The container's /etc/passwd and /etc/group; empty where it has none.
#[derive(Debug, Default)]
pub struct Database {
    pub passwd: Vec<u8>,
    pub group: Vec<u8>,
}

/// Most groups that a user is taken to be in; NGROUPS_MAX of the kernel.
const MOST_GROUPS: usize = 65536;

/// `NAME`, `UID` or `UID:GID`. A uid alone is the gid as well.
pub fn parse(text: &str) -> Result<UserChoice, String> {
    let id = |text: &str| match number::<u32>(text) {
        // (uid_t) -1 means "no change" to every call that takes an id.
        Ok(u32::MAX) | Err(_) => Err(format!("{text:?} is not an id: ids are numbers from 0 to 4294967294")),
        Ok(id) => Ok(id),
    };
    if let Some((uid, gid)) = text.split_once(':') {
        return Ok(UserChoice::Ids { uid: id(uid)?, gid: id(gid)? });
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        let uid = id(text)?;
        return Ok(UserChoice::Ids { uid, gid: uid });
    }
    if !is_name(text) {
        return Err(format!("{text:?} is neither the name of a user nor a number"));
    }
    Ok(UserChoice::Name(text.to_string()))
}

/// useradd(8)'s names, and the dot and capital letters that others allow.
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (1..=256).contains(&text.len()) && text.chars().all(fits) && !text.starts_with(['-', '.'])
}

/// Looks a user up by name.
pub fn find(name: &str, database: &Database) -> Result<Account, String> {
    let mut lines = lines(&database.passwd).map(|line| line.split(':').collect::<Vec<&str>>());
    let entry = lines.find(|fields| fields.first() == Some(&name));
    let entry = entry.ok_or_else(|| format!("the container's /etc/passwd has no user {name:?}"))?;
    let [_, _, uid, gid, _, home, ..] = entry.as_slice() else {
        return Err(format!("the entry of {name:?} in the container's /etc/passwd is not complete"));
    };
    let id = |text: &str| number::<u32>(text).ok().filter(|id| *id != u32::MAX);
    let (Some(uid), Some(gid)) = (id(uid), id(gid)) else {
        return Err(format!("the entry of {name:?} in the container's /etc/passwd has no valid ids"));
    };
    let usable = home.starts_with('/') && !home.contains(char::is_control);
    let mut groups: Vec<u32> = memberships(name, database).filter(|group| *group != gid).take(MOST_GROUPS).collect();
    groups.sort_unstable();
    groups.dedup();
    Ok(Account { name: name.into(), uid, gid, groups, home: usable.then(|| home.to_string()) })
}

/// The home directory and the shell of the first user with a number, as far as they can be paths.
pub fn login(uid: u32, database: &Database) -> (Option<String>, Option<String>) {
    let mut entries = lines(&database.passwd).map(|line| line.split(':').collect::<Vec<&str>>());
    let entry = entries.find(|fields| fields.get(2).is_some_and(|field| number::<u32>(field) == Ok(uid)));
    let path = |index: usize| {
        let text = *entry.as_ref()?.get(index)?;
        (text.starts_with('/') && !text.contains(char::is_control)).then(|| text.to_string())
    };
    (path(5), path(6))
}

/// The groups that list a user as a member.
fn memberships<'a>(name: &'a str, database: &'a Database) -> impl Iterator<Item = u32> + 'a {
    lines(&database.group).filter_map(move |line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, gid, members] = fields.as_slice() else { return None };
        members.split(',').any(|member| member == name).then_some(())?;
        number::<u32>(gid).ok().filter(|gid| *gid != u32::MAX)
    })
}

fn lines(file: &[u8]) -> impl Iterator<Item = &str> {
    file.split(|byte| *byte == b'\n').filter_map(|line| core::str::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(passwd: &str, group: &str) -> Database {
        Database { passwd: passwd.into(), group: group.into() }
    }

    #[test]
    fn numbers_are_never_names() {
        assert_eq!(parse("1000"), Ok(UserChoice::Ids { uid: 1000, gid: 1000 }));
        assert_eq!(parse("1000:5"), Ok(UserChoice::Ids { uid: 1000, gid: 5 }));
        assert_eq!(parse("alice"), Ok(UserChoice::Name("alice".into())));
        for bad in ["", "4294967295", "4294967296", "-1", "+1", "1x", "1:", ":1", "1:2:3", "a:b", "a b", "a/b", "x\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn accounts() {
        let files = database(
            "root:x:0:0:root:/root:/bin/sh\n\nalice:x:1000:100::/home/alice:/bin/sh\nalice:x:0:0::/:/bin/sh\n\
             short:x:1\nbad:x:-1:0::/:\nhuge:x:4294967295:0::/:\nodd:x:7:7::relative:\n",
            "root:x:0:\nusers:x:100:alice\naudio:x:29:bob,alice\nwheel:x:10:alicea\nshort:x\nsudo:x:27:alice\n\
             none:x:x:alice\n",
        );
        let alice = find("alice", &files).unwrap();
        assert_eq!((alice.uid, alice.gid, alice.groups), (1000, 100, vec![27, 29]));
        assert_eq!(alice.home.as_deref(), Some("/home/alice"));
        assert_eq!(find("odd", &files).unwrap().home, None);
        for bad in ["short", "bad", "huge", "nobody", ""] {
            assert!(find(bad, &files).is_err(), "{bad}");
        }
        assert!(find("x", &database("\u{0}\n:::::::\nx", "")).is_err());
        assert_eq!(login(1000, &files), (Some("/home/alice".into()), Some("/bin/sh".into())));
        assert_eq!(login(7, &files), (None, None));
        assert_eq!(login(4, &files), (None, None));
    }
}
