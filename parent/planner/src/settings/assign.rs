//! The keys of a settings file become overrides.
use super::keys::{self, KEYS, KeySupport, Trust};
use super::syntax::Entry;
use crate::options::InitChoice;
use crate::overrides::network::Network;
use crate::overrides::{Overrides, Sourced, Volatile, filter, mounts, user, values};
use crate::prelude::*;
use crate::problem::{Problem, did_you_mean};

/// What a file says, and what of it is left out.
#[derive(Debug, Default)]
pub struct Settings {
    pub overrides: Overrides,
    pub notes: Vec<Problem>,
}

/// The signal that asks an init for an orderly end (systemd(1)): what `Boot=` makes of SIGTERM.
const SIGRTMIN_PLUS_3: u8 = 37;

pub fn assign(entries: &[Entry], file: &str, trusted: bool) -> Result<Settings, String> {
    let mut settings = Settings::default();
    settings.overrides.untrusted = !trusted;
    let mut boot = None;
    for entry in entries {
        let origin = format!("{file}:{} {}=", entry.line, entry.key);
        let mut note = |message: String| settings.notes.push(Problem::new(origin.clone(), message));
        let Some(key) = keys::find(&entry.section, &entry.key) else {
            note(unknown(entry));
            continue;
        };
        match key.fate {
            // What is not done anyway can be turned off.
            KeySupport::Ignored(_) if values::boolean(&entry.value) == Ok(false) => continue,
            KeySupport::Ignored(why) => {
                note(format!("ignored: {why}"));
                continue;
            }
            KeySupport::Honoured(_) if key.trust == Trust::Trusted && !trusted => {
                note(
                    "ignored: the file is not trusted, as one in /etc/systemd/nspawn or named by --settings= would be"
                        .into(),
                );
                continue;
            }
            KeySupport::Honoured(_) => {}
        }
        let wrong = |message: String| format!("line {}: {}=: {message}", entry.line, entry.key);
        if key.name == "Boot" {
            boot = values::boolean(&entry.value).map_err(wrong)?.then(|| origin.clone());
        } else {
            let ignored = apply_key(&mut settings.overrides, entry, &origin, trusted).map_err(wrong)?;
            settings.notes.extend(ignored.map(|why| Problem::new(origin, format!("ignored: {why}"))));
        }
    }
    if let Some(origin) = boot {
        boot_init(&mut settings.overrides, origin);
    }
    Ok(settings)
}

fn unknown(entry: &Entry) -> String {
    let sections = ["Exec", "Files", "Network"];
    if !sections.contains(&entry.section.as_str()) {
        return format!("ignored: there is no section [{}]{}", entry.section, did_you_mean(&entry.section, sections));
    }
    let names = KEYS.iter().filter(|key| key.section == entry.section).map(|key| key.name);
    let elsewhere = KEYS.iter().find(|key| key.name == entry.key);
    match elsewhere {
        Some(key) => format!("ignored: it belongs into section [{}]", key.section),
        None => {
            format!(
                "ignored: section [{}] has no key {:?}{}",
                entry.section,
                entry.key,
                did_you_mean(&entry.key, names)
            )
        }
    }
}

/// `Boot=yes`: the parameters are the init's.
fn boot_init(overrides: &mut Overrides, origin: String) {
    let parameters = overrides.args.take().map(|said| said.value).unwrap_or_default();
    let args = core::iter::once("/sbin/init".to_string()).chain(parameters).collect();
    overrides.args = Some(Sourced::new(args, origin.clone()));
    overrides.kill_signal.get_or_insert_with(|| Sourced::new(SIGRTMIN_PLUS_3, origin));
}

/// Why a value of a key has no effect, where it has none.
type Ignored = Option<&'static str>;

/// A value and the line that it is from.
fn said<T>(value: T, origin: &str) -> Sourced<T> {
    Sourced::new(value, origin)
}

/// Carries out one honoured key.
fn apply_key(into: &mut Overrides, entry: &Entry, origin: &str, trusted: bool) -> Result<Ignored, String> {
    let (key, text) = (entry.key.as_str(), entry.value.as_str());
    match (entry.section.as_str(), key) {
        ("Files", _) => files(into, key, text, origin, trusted),
        ("Network", _) => network(into, key, text, origin),
        (
            _,
            "User" | "Capability" | "AmbientCapability" | "DropCapability" | "PrivateUsers" | "SystemCallFilter"
            | "NoNewPrivileges",
        ) => rights(into, key, text, origin, trusted),
        _ => execution(into, key, text, origin),
    }
}

/// `[Exec]`, but for rights.
fn execution(into: &mut Overrides, key: &str, text: &str, origin: &str) -> Result<Ignored, String> {
    match key {
        "Ephemeral" => {
            if values::boolean(text)? {
                into.volatile = Some(said(Volatile::Overlay, origin));
            }
        }
        "ProcessTwo" => {
            if values::boolean(text)? {
                into.init = Some(said(InitChoice::Supervise, origin));
            }
        }
        "Parameters" => into.args = Some(said(values::words(text)?, origin)),
        "Environment" => {
            for word in values::words(text)? {
                let variable = values::assignment(&word, |_| None)?;
                let variable = variable.ok_or_else(|| format!("{word:?} is not of the form NAME=value"))?;
                into.env.push(said(variable, origin));
            }
        }
        "KillSignal" => into.kill_signal = Some(said(values::signal(text)?, origin)),
        "Personality" => into.personality = Some(said(values::personality(text)?, origin)),
        "MachineID" => into.env.push(said(("container_uuid".into(), values::machine_id(text)?), origin)),
        "WorkingDirectory" => into.cwd = Some(said(values::inside(text)?, origin)),
        "Hostname" => into.hostname = Some(said(text.into(), origin)),
        "OOMScoreAdjust" => into.oom_score = Some(said(values::oom_score(text)?, origin)),
        "CPUAffinity" => into.cpu_affinity = Some(said(values::cpus(text)?, origin)),
        "ResolvConf" => match text {
            "bind-host" => into.mounts.push(said(mounts::bind("-/etc/resolv.conf", true, None)?, origin)),
            "off" => {}
            _ => return Ok(Some("of its values only off and bind-host leave the image as it is")),
        },
        "Timezone" => match text {
            "bind" => into.mounts.push(said(mounts::bind("-/etc/localtime", true, None)?, origin)),
            "off" => {}
            _ => return Ok(Some("of its values only off and bind leave the image as it is")),
        },
        "SuppressSync" => into.suppress_sync = Some(said(values::boolean(text)?, origin)),
        limit => {
            let name = limit.strip_prefix("Limit").ok_or(NO_CODE)?;
            into.rlimits.push(said(values::rlimit_of(name, text)?, origin));
        }
    }
    Ok(None)
}

/// What of `[Exec]` gives or takes rights.
fn rights(into: &mut Overrides, key: &str, text: &str, origin: &str, trusted: bool) -> Result<Ignored, String> {
    match key {
        "User" => into.user = Some(said(user::parse(text)?, origin)),
        "Capability" => into.capabilities.push(said(values::capabilities(text)?, origin)),
        "AmbientCapability" => into.ambient_capabilities.push(said(values::capabilities(text)?, origin)),
        "DropCapability" => into.dropped_capabilities.push(said(values::capabilities(text)?, origin)),
        "PrivateUsers" => match text {
            "pick" | "managed" => return Ok(Some("rspawn allocates no range of ids: name it, FIRST:COUNT")),
            other if values::boolean(other) == Ok(false) => {}
            other if values::boolean(other) == Ok(true) => {
                return Ok(Some("rspawn allocates no range of ids: name it, FIRST:COUNT"));
            }
            other => into.private_users = Some(said(values::private_users(other)?, origin)),
        },
        "SystemCallFilter" => {
            let words = filter::parse(text)?;
            if !words.prohibit && !trusted {
                return Ok(Some("the file is not trusted, and this would permit more"));
            }
            into.system_calls.push(said(words, origin));
        }
        "NoNewPrivileges" => into.no_new_privileges = Some(said(values::boolean(text)?, origin)),
        _ => return Err(NO_CODE.into()),
    }
    Ok(None)
}

/// `[Files]`.
fn files(into: &mut Overrides, key: &str, text: &str, origin: &str, trusted: bool) -> Result<Ignored, String> {
    match key {
        "ReadOnly" => into.read_only = Some(said(values::boolean(text)?, origin)),
        "Volatile" => match values::volatile(text)? {
            Volatile::Overlay if !trusted => {
                return Ok(Some("the file is not trusted, and this would take a directory of the host"));
            }
            mode => into.volatile = Some(said(mode, origin)),
        },
        "Bind" => into.mounts.push(said(mounts::bind(text, false, None)?, origin)),
        "BindReadOnly" => into.mounts.push(said(mounts::bind(text, true, None)?, origin)),
        "TemporaryFileSystem" => into.mounts.push(said(mounts::tmpfs(text)?, origin)),
        "Inaccessible" => into.inaccessible.push(said(values::maybe_inside(text)?, origin)),
        "Overlay" => into.mounts.push(said(mounts::overlay(text, false, None)?, origin)),
        "OverlayReadOnly" => into.mounts.push(said(mounts::overlay(text, true, None)?, origin)),
        _ => return Err(NO_CODE.into()),
    }
    Ok(None)
}

/// `[Network]`.
fn network(into: &mut Overrides, key: &str, text: &str, origin: &str) -> Result<Ignored, String> {
    match key {
        "Private" => {
            let network = if values::boolean(text)? { Network::Own } else { Network::Host };
            into.network = Some(said(network, origin));
        }
        "Interface" => {
            for word in values::words(text)? {
                into.network_interfaces.push(said(values::interface(&word)?, origin));
            }
        }
        _ => return Err(NO_CODE.into()),
    }
    Ok(None)
}

/// Of a key that the table has and no function here.
const NO_CODE: &str = "rspawn has no code for this key";

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[test]
    fn every_honoured_key_has_code() {
        for key in KEYS.iter().filter(|key| matches!(key.fate, KeySupport::Honoured(_)) && key.name != "Boot") {
            let entry = Entry { line: 1, section: key.section.into(), key: key.name.into(), value: "\u{1}".into() };
            let done = apply_key(&mut Overrides::default(), &entry, "", true);
            assert_ne!(done, Err("rspawn has no code for this key".into()), "{}", key.name);
        }
    }

    #[test]
    fn an_untrusted_file_adds_nothing() {
        let text = "[Exec]\nCapability=CAP_SYS_ADMIN\nAmbientCapability=CAP_KILL\nDropCapability=CAP_KILL\n\
            LimitNOFILE=9\nOOMScoreAdjust=-1000\nSystemCallFilter=@mount\nSystemCallFilter=~ptrace\nUser=1\n\
            CPUAffinity=0\nEphemeral=yes\nMachineID=0123456789abcdef0123456789abcdef\nPrivateUsers=0:1\n\
            [Files]\nBind=/\nBindReadOnly=/\nTemporaryFileSystem=/a\nInaccessible=/b\nOverlay=/a:/b:/c\n\
            OverlayReadOnly=/a:/b:/c\nBindUser=root\nReadOnly=yes\n[Network]\nPrivate=no\nInterface=eth0\n";
        let untrusted = parse(text, "x.nspawn", false).unwrap();
        let got = &untrusted.overrides;
        assert!(got.capabilities.is_empty() && got.ambient_capabilities.is_empty() && got.rlimits.is_empty());
        assert!(got.mounts.is_empty() && got.inaccessible.is_empty() && got.network_interfaces.is_empty());
        assert!(got.oom_score.is_none() && got.cpu_affinity.is_none() && got.volatile.is_none() && got.env.is_empty());
        assert!(got.network.is_none() && got.private_users.is_none());
        assert_eq!((got.dropped_capabilities.len(), got.system_calls.len()), (1, 1));
        assert!(got.user.is_some() && got.read_only.is_some() && got.untrusted);
        assert_eq!(untrusted.notes.len(), 19 - 1, "{:#?}", untrusted.notes);
        let trusted = parse(text, "x.nspawn", true).unwrap().overrides;
        assert_eq!((trusted.mounts.len(), trusted.inaccessible.len(), trusted.capabilities.len()), (5, 1, 1));
    }

    #[test]
    fn booting_takes_the_parameters() {
        let settings = parse("[Exec]\nParameters=--unit rescue\nBoot=yes\n", "x", false).unwrap();
        assert_eq!(settings.overrides.args.unwrap().value, ["/sbin/init", "--unit", "rescue"]);
        assert_eq!(settings.overrides.kill_signal.unwrap().value, SIGRTMIN_PLUS_3);
    }

    #[test]
    fn what_is_left_out_is_said() {
        let settings =
            parse("[Exec]\nUsr=x\nBind=/a\nNotifyReady=no\nPivotRoot=/x\n[Exce]\nUser=x\n", "x.nspawn", true);
        let notes: Vec<String> = settings.unwrap().notes.iter().map(Problem::to_string).collect();
        assert_eq!(notes.len(), 4, "{notes:?}");
        assert!(notes[0].starts_with("x.nspawn:2 Usr=: ignored") && notes[0].contains("User?"), "{notes:?}");
        assert!(notes[1].contains("belongs into section [Files]") && notes[3].contains("Exec?"), "{notes:?}");
        for bad in ["[Exec]\nUser=1:", "[Files]\nReadOnly=perhaps", "[Exec]\nLimitNOFILE=x", "[Files]\nBind=a"] {
            assert!(parse(bad, "x", true).unwrap_err().starts_with("line 2: "), "{bad}");
        }
    }
}
