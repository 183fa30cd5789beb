//! `run` by an ordinary user, beside the machine's root and beside the others. The processes change their ids by
//! themselves, so that no wrapper is measured.
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rspawn_tests::user::{RANGE, User};
use rspawn_tests::{Bundle, program};
use serde_json::{Value, json};

use crate::contestants::{Contestant, RSPAWN, find_program, quiet, works};
use crate::time::{measure, print_table_beside};
use crate::{headline, skipped};

const ONE: &str = "rspawn, a user with one id";
const MANY: &str = "rspawn, a user with a range";

/// Name, program or why there is none, its bundle, and who runs it.
type One<'a> = (&'static str, Result<PathBuf, String>, Bundle, Option<&'a User>);

pub fn rootless_section(runs: usize) {
    headline(&format!(
        "time of `run` with /bin/true by an ordinary user, milliseconds, {runs} interleaved runs of each"
    ));
    let (Some(one), Some(many)) = (User::by_number(), User::with_range()) else { return };
    if let Err(reason) = show_to_everybody(&many) {
        return skipped("everyone", &reason);
    }
    let rspawn = || Ok(program("rspawn"));
    let other = |name: &str| find_program(name).ok_or_else(|| "not installed".to_string());
    let grounds: [One; 7] = [
        (RSPAWN, rspawn(), bundle(&[]), None),
        (ONE, rspawn(), bundle(&[one_id(&one)]), Some(&one)),
        (
            MANY,
            rspawn(),
            bundle(&[one_id(&many), json!({"containerID": 1, "hostID": RANGE.0, "size": RANGE.1})]),
            Some(&many),
        ),
        ("runc", other("runc"), bundle(&[]), None),
        ("runc, a user with one id", other("runc"), bundle(&[one_id(&one)]), Some(&one)),
        (
            "runc, a user with a range",
            other("runc"),
            bundle(&[one_id(&many), json!({"containerID": 1, "hostID": RANGE.0, "size": RANGE.1})]),
            Some(&many),
        ),
        ("crun, a user with one id", other("crun"), bundle(&[one_id(&one)]), Some(&one)),
    ];
    let mut here = Vec::new();
    for (name, path, bundle, user) in &grounds {
        match path.clone().and_then(|path| works(command(path, bundle, *user))) {
            Ok(command) => here.push(Contestant { name, command }),
            Err(reason) => skipped(name, &reason),
        }
    }
    let measured = measure(here, runs);
    for base in [ONE, MANY] {
        print_table_beside(&measured, base);
    }
}

fn one_id(user: &User) -> Value {
    json!({"containerID": 0, "hostID": user.number, "size": 1})
}

/// The bundle of the other sections; without the group of terminals where a user namespace may not have it.
fn bundle(ranges: &[Value]) -> Bundle {
    let bundle = Bundle::new().with_args(&["/bin/true"]).with(|config| {
        config["root"]["readonly"] = json!(true);
        // The newest that Debian's crun takes.
        config["ociVersion"] = json!("1.0.2");
        if ranges.is_empty() {
            return;
        }
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().expect("namespaces").push(json!({"type": "user"}));
        (linux["uidMappings"], linux["gidMappings"]) = (json!(ranges), json!(ranges));
        for mount in config["mounts"].as_array_mut().expect("mounts") {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    });
    bundle.write_config();
    bundle
}

fn command(path: PathBuf, bundle: &Bundle, user: Option<&User>) -> Command {
    let mut command = Command::new(path);
    command.arg("--root").arg(bundle.state_root());
    command.arg("run").arg("--bundle").arg(bundle.path()).arg(&bundle.id);
    if let Some(user) = user {
        user.give(bundle.path());
        command.uid(user.number).gid(user.number).env("XDG_RUNTIME_DIR", user.runtime_directory());
    }
    quiet(command)
}

/// Mounts a user's files over the machine's, for this process and those that it starts.
fn show_to_everybody(user: &User) -> Result<(), String> {
    let say = |error: nix::errno::Errno| format!("no mount namespace for the user's files: {error}");
    unshare(CloneFlags::CLONE_NEWNS).map_err(say)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none).map_err(say)?;
    for file in ["passwd", "group", "subuid", "subgid"] {
        let (from, to) = (user.files.path.join(file), format!("/etc/{file}"));
        if fs::metadata(&to).is_ok() {
            mount(Some(&from), to.as_str(), none, MsFlags::MS_BIND, none).map_err(say)?;
        }
    }
    Ok(())
}
