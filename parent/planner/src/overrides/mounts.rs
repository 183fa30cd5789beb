//! `--bind=`, `--tmpfs=`, `--overlay=` in systemd-nspawn's syntax, as entries of `mounts`.
use crate::oci::Mount;
use crate::prelude::*;

/// A mount to add, in the words of config.json.
#[derive(Debug, Clone)]
pub struct ExtraMount {
    pub mount: Mount,
    /// A source that does not exist is no error: the mount is left out (a leading `-`).
    pub optional: bool,
    /// A directory to make if it is missing, before privileges go: the work directory of a writable overlay.
    pub work_directory: Option<String>,
}

/// Where a path that is not absolute starts.
pub type BaseDirectory<'a> = Option<&'a str>;

/// `[-]SOURCE[:DESTINATION[:OPTIONS]]`.
pub fn bind(text: &str, read_only: bool, base: BaseDirectory) -> Result<ExtraMount, String> {
    let (optional, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let parts = split(text);
    let (source, destination, options) = match parts.as_slice() {
        [both] => (both, both, ""),
        [source, destination] => (source, destination, ""),
        [source, destination, options] => (source, destination, options.as_str()),
        _ => return Err("it must read SOURCE[:DESTINATION[:OPTIONS]]; `\\:` is a colon in a path".into()),
    };
    let source = host_path(source, base)?;
    let destination = if parts.len() == 1 { source.clone() } else { inside(destination)? };
    let mut recursive = true;
    let mut words = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "rbind" | "norbind" => recursive = option == "rbind",
            "noidmap" => {}
            "rootidmap" | "owneridmap" => {
                return Err(format!(
                    "{option} is not supported: the option idmap takes the container's own id mappings"
                ));
            }
            other => words.push(other.to_string()),
        }
    }
    words.insert(0, if recursive { "rbind" } else { "bind" }.into());
    if read_only {
        words.push(if recursive { "rro" } else { "ro" }.into());
    }
    let mount =
        Mount { destination, kind: Some("bind".into()), source: Some(source), options: words, ..Mount::default() };
    Ok(ExtraMount { mount, optional, work_directory: None })
}

/// `PATH[:OPTIONS]`.
pub fn tmpfs(text: &str) -> Result<ExtraMount, String> {
    let parts = split(text);
    let (destination, options) = match parts.as_slice() {
        [path] => (inside(path)?, vec!["nosuid".into(), "nodev".into(), "mode=0755".into()]),
        [path, options] => {
            (inside(path)?, options.split(',').filter(|word| !word.is_empty()).map(str::to_string).collect())
        }
        _ => return Err("it must read PATH[:OPTIONS]; `\\:` is a colon in a path".into()),
    };
    let mount =
        Mount { destination, kind: Some("tmpfs".into()), source: Some("tmpfs".into()), options, ..Mount::default() };
    Ok(ExtraMount { mount, optional: false, work_directory: None })
}

/// `LOWEST[:…]:HIGHEST:DESTINATION`, or two paths, of which the second is both. What is written goes to the highest.
pub fn overlay(text: &str, read_only: bool, base: BaseDirectory) -> Result<ExtraMount, String> {
    let parts = split(text);
    let (layers, destination) = match parts.as_slice() {
        [_, both] => (parts.as_slice(), inside(both)?),
        [layers @ .., destination] if layers.len() >= 2 => (layers, inside(destination)?),
        _ => return Err("it must name at least two directories, the lowest first, the mount point last".into()),
    };
    let mut layers = layers.iter().map(|path| host_path(path, base)).collect::<Result<Vec<String>, _>>()?;
    // The kernel takes the highest of the lower layers first.
    layers.reverse();
    let mut options = Vec::new();
    let mut work_directory = None;
    if !read_only {
        let upper = layers.remove(0);
        let work = work_directory_of(&upper)?;
        options.push(format!("upperdir={upper}"));
        options.push(format!("workdir={work}"));
        work_directory = Some(work);
    }
    let lower: Vec<String> = layers.iter().map(|path| path.replace('\\', r"\\").replace(':', r"\:")).collect();
    options.insert(0, format!("lowerdir={}", lower.join(":")));
    let mount = Mount {
        destination,
        kind: Some("overlay".into()),
        source: Some("overlay".into()),
        options,
        ..Mount::default()
    };
    Ok(ExtraMount { mount, optional: false, work_directory })
}

/// A directory beside the upper layer: the kernel wants one on the same mount that is no part of it.
fn work_directory_of(upper: &str) -> Result<String, String> {
    let trimmed = upper.trim_end_matches('/');
    match trimmed.rsplit_once('/') {
        Some((parent, name)) if !name.is_empty() && name != "." && name != ".." => {
            Ok(format!("{parent}/.{name}.rspawn-work"))
        }
        _ => Err(format!("{upper:?} has no directory beside it for the overlay's work directory")),
    }
}

/// Cuts at colons that no backslash escapes, and takes the backslashes away.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let part = match character {
            ':' => {
                parts.push(String::new());
                continue;
            }
            '\\' => characters.next(),
            other => Some(other),
        };
        if let Some(last) = parts.last_mut() {
            last.extend(part);
        }
    }
    parts
}

fn inside(path: &str) -> Result<String, String> {
    if path.starts_with('/') { Ok(path.into()) } else { Err(format!("the mount point {path:?} is not absolute")) }
}

/// A path of the host, made absolute.
fn host_path(path: &str, base: BaseDirectory) -> Result<String, String> {
    if path.is_empty() {
        return Err("an empty source, for a temporary directory, is not supported: --tmpfs= and --volatile=overlay \
                    keep nothing either"
            .into());
    }
    if path.starts_with('+') {
        return Err(format!(
            "{path:?}: a path below the image's root is not supported: rspawn-setup opens sources on the host, where a \
             link of the image would lead out of it"
        ));
    }
    match base {
        _ if path.starts_with('/') => Ok(path.into()),
        Some(base) => Ok(format!("{}/{path}", base.trim_end_matches('/'))),
        None => Err(format!("the source {path:?} is not an absolute path")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(mount: Result<ExtraMount, String>) -> (String, String, String, bool) {
        let ExtraMount { mount, optional, .. } = mount.unwrap();
        (mount.source.unwrap_or_default(), mount.destination, mount.options.join(","), optional)
    }

    #[test]
    fn binds() {
        let is = |text: &str, read_only: bool, expected: (&str, &str, &str, bool)| {
            let (source, destination, options, optional) = shape(bind(text, read_only, Some("/here")));
            assert_eq!((source.as_str(), destination.as_str(), options.as_str(), optional), expected, "{text}");
        };
        is("/a", false, ("/a", "/a", "rbind", false));
        is("-/a:/b", true, ("/a", "/b", "rbind,rro", true));
        is("a:/b:norbind,noexec", true, ("/here/a", "/b", "bind,noexec,ro", false));
        is(r"/a\:b:/c\:d", false, ("/a:b", "/c:d", "rbind", false));
        for bad in ["", ":/b", "/a:b", "/a:/b:/c:/d", "+/a:/b", "/a:/b:rootidmap"] {
            assert!(bind(bad, false, Some("/here")).is_err(), "{bad}");
        }
        assert!(bind("a", false, None).is_err());
    }

    #[test]
    fn tmpfs_mounts() {
        assert_eq!(shape(tmpfs("/a")).2, "nosuid,nodev,mode=0755");
        assert_eq!(shape(tmpfs("/a:size=1M,noexec")).2, "size=1M,noexec");
        assert!(tmpfs("a").is_err() && tmpfs("/a:b:c").is_err());
    }

    #[test]
    fn overlays() {
        assert_eq!(shape(overlay("/l:/m:/u:/d", false, None)).2, "lowerdir=/m:/l,upperdir=/u,workdir=/.u.rspawn-work");
        assert_eq!(shape(overlay("/l:/x/d/", false, None)).2, "lowerdir=/l,upperdir=/x/d/,workdir=/x/.d.rspawn-work");
        assert_eq!(shape(overlay(r"/l:/a\:b:/d", true, None)).2, r"lowerdir=/a\:b:/l");
        for bad in ["/d", "", "/l::/d", "/l:/u:d", "+/var:/u:/d", "/l:/:/d"] {
            assert!(overlay(bad, false, None).is_err(), "{bad}");
        }
    }
}
