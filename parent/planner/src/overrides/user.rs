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
    Ids {
        uid: u32,
        gid: u32,
    },
    /// At least one of them is a name; the other one may be a number.
    Names {
        user: String,
        group: Option<String>,
    },
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

/// `NAME` or `UID`, and a group behind a colon. A uid alone is the gid as well.
pub fn parse(text: &str) -> Result<UserChoice, String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let named = [("user", Some(user)), ("group", group)].map(|(what, word)| match word {
        Some(word) if !is_id(word) && !is_name(word) => {
            Err(format!("{word:?} is neither the name of a {what} nor a number"))
        }
        Some(word) if is_id(word) => id(word).map(|_| false),
        word => Ok(word.is_some()),
    });
    let [user_is_named, group_is_named] = named;
    if user_is_named? | group_is_named? {
        return Ok(UserChoice::Names { user: user.into(), group: group.map(String::from) });
    }
    let uid = id(user)?;
    Ok(UserChoice::Ids { uid, gid: group.map_or(Ok(uid), id)? })
}

/// Whether a word is to be a number.
fn is_id(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn id(text: &str) -> Result<u32, String> {
    match number::<u32>(text) {
        // (uid_t) -1 means "no change" to every call that takes an id.
        Ok(u32::MAX) | Err(_) => Err(format!("{text:?} is not an id: ids are numbers from 0 to 4294967294")),
        Ok(id) => Ok(id),
    }
}

/// Who is chosen. With a group, that one is the only one, as with docker.
pub fn find_chosen(choice: &UserChoice, database: &Database) -> Result<Account, String> {
    let of_ids = |uid, gid| Account { name: String::new(), uid, gid, groups: Vec::new(), home: None };
    match choice {
        UserChoice::Ids { uid, gid } => Ok(of_ids(*uid, *gid)),
        UserChoice::Names { user, group } => {
            let mut account = if is_id(user) { of_ids(id(user)?, 0) } else { find(user, database)? };
            if let Some(group) = group {
                account.gid = if is_id(group) { id(group)? } else { find_group(group, database)? };
                account.groups.clear();
            }
            Ok(account)
        }
    }
}

/// Looks a group up by name.
fn find_group(name: &str, database: &Database) -> Result<u32, String> {
    let mut entries = lines(&database.group).map(|line| line.split(':').collect::<Vec<&str>>());
    let entry = entries.find(|fields| fields.first() == Some(&name));
    let entry = entry.ok_or_else(|| format!("the container's /etc/group has no group {name:?}"))?;
    let gid = entry.get(2).and_then(|field| id(field).ok());
    gid.ok_or_else(|| format!("the entry of {name:?} in the container's /etc/group has no valid id"))
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
        let names =
            |user: &str, group: Option<&str>| UserChoice::Names { user: user.into(), group: group.map(Into::into) };
        assert_eq!(parse("alice"), Ok(names("alice", None)));
        assert_eq!(parse("alice:7"), Ok(names("alice", Some("7"))));
        assert_eq!(parse("7:users"), Ok(names("7", Some("users"))));
        for bad in
            ["", "4294967295", "4294967296", "-1", "+1", "1x", "1:", ":1", "1:2:3", "a:", "a:b:c", "a b", "a/b", "x\n"]
        {
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
        let chosen =
            |text: &str| find_chosen(&parse(text).unwrap(), &files).map(|found| (found.uid, found.gid, found.groups));
        assert_eq!(chosen("alice"), Ok((1000, 100, vec![27, 29])));
        assert_eq!(chosen("alice:audio"), Ok((1000, 29, vec![])));
        assert_eq!(chosen("alice:7"), Ok((1000, 7, vec![])));
        assert_eq!(chosen("7:users"), Ok((7, 100, vec![])));
        assert_eq!(chosen("7:8"), Ok((7, 8, vec![])));
        for bad in ["alice:none", "alice:short", "alice:nobody"] {
            assert!(chosen(bad).is_err(), "{bad}");
        }
        assert_eq!(login(1000, &files), (Some("/home/alice".into()), Some("/bin/sh".into())));
        assert_eq!(login(7, &files), (None, None));
        assert_eq!(login(4, &files), (None, None));
    }
}
