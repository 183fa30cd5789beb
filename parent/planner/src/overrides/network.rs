//! `--network=`: whose network a container has.
use super::sourced::Sourced;
use crate::oci::{Linux, Mount, Namespace, NetDevice, Spec};
use crate::origins::Origins;
use crate::prelude::*;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The host's.
    Host,
    /// One of its own, with a loopback device alone.
    Own,
    /// That of a namespace's file.
    Joined(String),
}

impl Network {
    /// `host`, `none`, `private`, or the path of a namespace.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "host" => Ok(Self::Host),
            "none" | "private" => Ok(Self::Own),
            path if path.starts_with('/') => Ok(Self::Joined(path.into())),
            other => Err(format!("{other:?} is none of host, none and private, nor an absolute path of a namespace")),
        }
    }
}

/// Devices of the host that are moved ask for a network of its own.
pub fn move_devices(linux: &mut Linux, devices: &[Sourced<(String, String)>], origins: &mut Origins) {
    for said in devices {
        own(linux, &said.origin, origins);
        let (name, new_name) = &said.value;
        linux.net_devices.insert(name.clone(), NetDevice { name: Some(new_name.clone()) });
        origins.replace(format!("/linux/netDevices/{}", crate::oci::escape(name)), &said.origin);
    }
}

/// `resolver`: whether the root has a list of name servers that the host's can cover.
pub fn choose(spec: &mut Spec, said: &Sourced<Network>, resolver: bool, origins: &mut Origins) {
    let linux = spec.linux.get_or_insert_default();
    match &said.value {
        Network::Own => own(linux, &said.origin, origins),
        Network::Joined(path) => {
            let index = put_namespace(linux, Namespace { kind: "network".into(), path: Some(path.clone()) });
            origins.replace(format!("/linux/namespaces/{index}"), &said.origin);
        }
        Network::Host => {
            share(linux, &said.origin, origins);
            if resolver {
                name_servers(&mut spec.mounts, &said.origin, origins);
            }
        }
    }
}

fn own(linux: &mut Linux, origin: &str, origins: &mut Origins) {
    let is_own = |entry: &Namespace| entry.kind == "network" && entry.path.as_deref().unwrap_or_default().is_empty();
    if !linux.namespaces.iter().any(is_own) {
        let index = put_namespace(linux, Namespace { kind: "network".into(), path: None });
        origins.replace(format!("/linux/namespaces/{index}"), origin);
        origins.amend("/linux/namespaces", origin);
    }
}

fn share(linux: &mut Linux, origin: &str, origins: &mut Origins) {
    while let Some(index) = linux.namespaces.iter().position(|entry| entry.kind == "network") {
        linux.namespaces.swap_remove(index);
        let last = linux.namespaces.len();
        if index < last {
            let place = format!("/linux/namespaces/{last}");
            match origins.of(&place).into_owned() {
                known if known == place => origins.moved(format!("/linux/namespaces/{index}"), place),
                known => origins.replace(format!("/linux/namespaces/{index}"), &known),
            }
        }
        origins.amend("/linux/namespaces", origin);
    }
}

/// Names are resolved by the host's name servers, as by anybody else in its network: nothing is written into the root.
fn name_servers(mounts: &mut Vec<Mount>, origin: &str, origins: &mut Origins) {
    if mounts.iter().any(|mount| mount.destination.trim_end_matches('/') == RESOLVER) {
        return;
    }
    origins.replace(format!("/mounts/{}", mounts.len()), origin);
    mounts.push(Mount {
        destination: RESOLVER.into(),
        kind: Some("bind".into()),
        source: Some(RESOLVER.into()),
        options: ["bind", "ro", "nosuid", "nodev", "noexec"].map(String::from).to_vec(),
        ..Mount::default()
    });
}

/// resolv.conf(5).
pub const RESOLVER: &str = "/etc/resolv.conf";

/// Puts an entry in the place of the one of its kind, or at the end; gives its index.
pub fn put_namespace(linux: &mut Linux, entry: Namespace) -> usize {
    match linux.namespaces.iter().position(|known| known.kind == entry.kind) {
        Some(index) => {
            linux.namespaces[index] = entry;
            index
        }
        None => {
            linux.namespaces.push(entry);
            linux.namespaces.len() - 1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_network_leaves_the_other_namespaces_where_they_were() {
        let entry = |kind: &str| Namespace { kind: kind.into(), path: None };
        let mut spec = Spec::default();
        let kinds = ["mount", "network", "pid", "ipc"];
        spec.linux = Some(Linux { namespaces: kinds.map(entry).to_vec(), ..Linux::default() });
        let mut origins = Origins::default();
        choose(&mut spec, &Sourced::new(Network::Host, "--network=host"), true, &mut origins);
        let left: Vec<_> = spec.linux.unwrap().namespaces.into_iter().map(|entry| entry.kind).collect();
        assert_eq!(left, ["mount", "ipc", "pid"]);
        assert_eq!(origins.of("/linux/namespaces/1"), "/linux/namespaces/3");
        assert_eq!(origins.of("/linux/namespaces/2"), "/linux/namespaces/2");
        assert_eq!(origins.of("/linux/namespaces"), "--network=host");
        assert_eq!(spec.mounts.iter().map(|mount| mount.destination.as_str()).collect::<Vec<_>>(), [RESOLVER]);
    }
}
