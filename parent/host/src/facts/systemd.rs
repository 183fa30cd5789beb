//! The way to systemd: which of its managers makes the caller's scopes, and a connection to the bus that it listens on.
//! All of it before a byte of the bundle is read; what is asked there, rspawn-scope asks.
use std::env;
use std::path::Path;

use rspawn_sys::Fd;

use crate::inputs::cli_inputs;
use rspawn_planner::facts::{Ids, MISSING, Manager};

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// The manager of a caller with these ids; `None` where systemd does not run.
pub fn manager(ids: &Ids) -> Result<Option<Manager>, String> {
    // As sd_booted(3).
    const SIGN: &str = "/run/systemd/system";
    if !std::fs::exists(SIGN).map_err(|error| format!("cannot look for {SIGN}: {error}"))? {
        return Ok(None);
    }
    // Root of a user namespace may be a user's, whose session says so: as podman has it.
    let in_session = || env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some() || env::var_os("XDG_RUNTIME_DIR").is_some();
    let is_user = ids.rootless || (!ids.initial && in_session());
    Ok(Some(if is_user { Manager::User } else { Manager::System }))
}

/// Connects to the bus of a manager, as the invoker's environment names it.
pub fn connect(manager: Option<Manager>) -> Result<Fd, String> {
    let (name, paths) = match manager.ok_or(MISSING)? {
        Manager::System => ("systemd's bus", vec![SYSTEM_BUS.to_string()]),
        Manager::User => ("the bus of your session's systemd", session_bus()?),
    };
    let mut failure = format!("there is no address of {name}");
    for path in paths {
        match cli_inputs::connect(Path::new(&path)) {
            Ok(bus) => return Ok(bus),
            Err(error) => failure = format!("cannot connect to {name} at {path}: {error}"),
        }
    }
    let hint = match manager {
        Some(Manager::User) => "; `loginctl enable-linger` keeps it running without a login",
        _ => "",
    };
    Err(format!("{failure}{hint}"))
}

/// Sockets of the session's bus. A leading `@` stands for a name without a file.
fn session_bus() -> Result<Vec<String>, String> {
    if let Ok(address) = env::var("DBUS_SESSION_BUS_ADDRESS")
        && !address.is_empty()
    {
        let sockets = sockets(&address);
        if sockets.is_empty() {
            return Err(format!("DBUS_SESSION_BUS_ADDRESS has no socket on this machine: {address}"));
        }
        return Ok(sockets);
    }
    match env::var("XDG_RUNTIME_DIR") {
        Ok(directory) if directory.starts_with('/') => Ok(vec![format!("{directory}/bus")]),
        _ => {
            Err("without root, the scope is made by your session's systemd, and neither DBUS_SESSION_BUS_ADDRESS nor \
                  XDG_RUNTIME_DIR says where that is"
                .into())
        }
    }
}

/// The sockets of a list of addresses (D-Bus Specification, "Server Addresses").
fn sockets(addresses: &str) -> Vec<String> {
    let socket = |address: &str| {
        let options = address.strip_prefix("unix:")?;
        options.split(',').find_map(|option| match option.split_once('=')? {
            ("path", path) => unescape(path),
            ("abstract", name) => unescape(name).map(|name| format!("@{name}")),
            _ => None,
        })
    };
    addresses.split(';').filter_map(socket).collect()
}

/// Bytes are written as `%2f`, too.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_bus() {
        for (address, expected) in [
            ("unix:path=/run/user/1000/bus", vec!["/run/user/1000/bus"]),
            ("unix:path=/a%20b,guid=00ff", vec!["/a b"]),
            ("unix:guid=00ff,abstract=/tmp/x", vec!["@/tmp/x"]),
            ("tcp:host=x;unix:path=/a;unix:path=/b", vec!["/a", "/b"]),
            ("unix:path=/%zz", vec![]),
            ("unix:path=/%2", vec![]),
            ("unix:tmpdir=/tmp", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(sockets(address), expected, "{address}");
        }
    }
}
