//! The root of the lane `systemd`: Debian, with systemd as the machine's first process, and podman.
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{self, output_of};
use crate::image::Temporary;
use crate::suite::Job;
use crate::{Outcome, image, programs};

pub const INIT: &str = "/lib/systemd/systemd";

/// The name of the tree in the cache: another list of packages needs another name.
const TREE: &str = "debian-bookworm-4";

const BASE: &str =
    "systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,busybox-static,strace,iproute2,procps,uidmap";

/// What debootstrap cannot put into an order that configures.
const CLIENTS: [&str; 4] = ["podman", "conmon", "runc", "crun"];

/// Runs the tests; started by the unit below.
const SCRIPT: &str = include_str!("guest/systemd.sh");
const UNIT: &str = include_str!("guest/vm-tests.service");

pub fn root(directory: &Path, jobs: &[Job]) -> Outcome<Temporary> {
    let tree = tree()?;
    let made = Temporary::at(directory.join("debian"));
    let root = made.path();
    image::fresh(root)?;
    // Most of it is only read, but the cache is everybody's.
    output_of(Command::new("cp").args(["-a", "--reflink=auto"]).arg(tree.join("root/.")).arg(root))?;
    programs::install(root, jobs, SCRIPT)?;
    let unit = root.join("etc/systemd/system/vm-tests.service");
    std::fs::write(&unit, UNIT).map_err(|error| format!("{}: {error}", unit.display()))?;
    let mut systemctl = Command::new("chroot");
    systemctl.arg(root).args(["systemctl", "enable", "vm-tests.service"]);
    output_of(&mut systemctl)?;
    Ok(made)
}

/// What debootstrap makes, once for this machine.
pub fn tree() -> Outcome<PathBuf> {
    cache::directory(TREE, bootstrap)
}

fn bootstrap(directory: &Path) -> Outcome<()> {
    println!("vm: debootstrap, once for this machine");
    let root = directory.join("root");
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.arg("--variant=minbase").arg(format!("--include={BASE}")).arg("bookworm").arg(&root);
    output_of(&mut debootstrap)?;
    let mut install = Command::new("chroot");
    install.arg(&root).args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-qq"]);
    install.args(["--no-install-recommends", "install"]).args(CLIENTS);
    output_of(&mut install)?;
    // Nothing of what follows is needed to run.
    for waste in ["var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"] {
        let _ = std::fs::remove_dir_all(root.join(waste));
    }
    // No units that wait for what the machine does not have.
    let mut mask = Command::new("chroot");
    mask.arg(&root).args(["systemctl", "mask", "serial-getty@ttyS0.service", "getty@tty1.service"]);
    mask.args(["systemd-networkd-wait-online.service", "podman.service", "podman.socket", "apt-daily.timer"]);
    mask.args(["apt-daily-upgrade.timer", "fstrim.timer", "e2scrub_all.timer", "e2scrub_reap.service"]);
    output_of(&mut mask).map(drop)
}
