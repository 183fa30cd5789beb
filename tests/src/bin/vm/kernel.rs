//! The kernel that is booted: Debian's for virtual machines, out of its package, which need not be installed.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;
use crate::cache::{self, output_of};
use crate::image;

/// The package that depends on the newest one.
const PACKAGE: &str = "linux-image-cloud-amd64";
const PREFIX: &str = "linux-image-";

pub struct Kernel {
    pub image: PathBuf,
    pub release: String,
    /// Holds lib/modules, with the modules' dependencies.
    pub tree: PathBuf,
}

/// What the root disk needs to be mounted, and what tests use. Loaded at the start: the root disk holds no modules.
const MODULES: [&str; 10] =
    ["virtio_pci", "virtio_blk", "overlay", "loop", "tun", "dummy", "veth", "fuse", "bfq", "autofs4"];

/// In place of what no emulator has.
const STAND_IN: [(&str, &str); 2] =
    [("Kbuild", include_str!("guest/resctrl/Kbuild")), ("resctrl.c", include_str!("guest/resctrl/resctrl.c"))];

impl Kernel {
    /// Compiles the module that stands in for resctrl; `None` without the kernel's headers.
    pub fn stand_in(&self, directory: &Path) -> Outcome<Option<PathBuf>> {
        let headers = Path::new("/lib/modules").join(&self.release).join("build");
        if !headers.exists() {
            return Ok(None);
        }
        let place = directory.join("resctrl");
        image::fresh(&place)?;
        for (name, text) in STAND_IN {
            fs::write(place.join(name), text).map_err(|error| format!("{name}: {error}"))?;
        }
        let mut make = Command::new("make");
        make.arg("-s").arg("-C").arg(headers).arg(format!("M={}", place.display())).arg("modules");
        output_of(&mut make)?;
        Ok(Some(place.join("resctrl.ko")))
    }

    /// The modules' files, each after those that it needs.
    pub fn modules(&self) -> Outcome<Vec<PathBuf>> {
        let directory = self.tree.join("lib/modules").join(&self.release);
        let text =
            fs::read_to_string(directory.join("modules.dep")).map_err(|error| format!("modules.dep: {error}"))?;
        let mut order: Vec<PathBuf> = Vec::new();
        for module in MODULES {
            let file = format!("/{module}.ko");
            // One that is not there is built into the kernel: the disk would not be found otherwise.
            let line = text.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.ends_with(&file)));
            let Some((name, needs)) = line else { continue };
            for file in needs.split_whitespace().rev().chain([name]) {
                let file = directory.join(file);
                if !order.contains(&file) {
                    order.push(file);
                }
            }
        }
        Ok(order)
    }
}

pub fn fetch() -> Outcome<Kernel> {
    let depends = output_of(Command::new("apt-cache").args(["depends", PACKAGE])).unwrap_or_default();
    let newest = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    // Debian numbers its kernels with dots, which names in the cache do not have.
    let cached = || cache::newest(PREFIX);
    let (name, package) = match newest {
        Some(package) => (package.replace('.', "_"), Some(package)),
        None => (cached().ok_or(format!("apt knows no package {PACKAGE}: run apt-get update"))?, None),
    };
    let tree = cache::directory(&name, |directory| unpack(directory, package.unwrap_or(PACKAGE)))?;
    let release = fs::read_dir(tree.join("lib/modules")).ok().and_then(|mut list| list.next()?.ok());
    let release = release.ok_or("a kernel's package without modules")?.file_name().to_string_lossy().into_owned();
    Ok(Kernel { image: tree.join(format!("boot/vmlinuz-{release}")), release, tree })
}

fn unpack(directory: &Path, package: &str) -> Outcome<()> {
    println!("vm: fetching {package}");
    // As root, since apt's own user may not write here.
    let mut download = Command::new("apt-get");
    download.args(["-o", "APT::Sandbox::User=root", "-qq", "download", package]).current_dir(directory);
    output_of(&mut download)?;
    let files = fs::read_dir(directory).map_err(|error| error.to_string())?.flatten();
    let archive = files.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|ending| ending == "deb"));
    let archive = archive.ok_or(format!("apt-get download {package} left no package"))?;
    output_of(Command::new("dpkg").arg("-x").arg(&archive).arg(directory))?;
    let _ = fs::remove_file(archive);
    let modules = fs::read_dir(directory.join("lib/modules")).map_err(|error| format!("its modules: {error}"))?;
    for release in modules.flatten() {
        // Debian's packages leave this to their installation.
        let mut depmod = Command::new("busybox");
        depmod.arg("depmod").arg("-b").arg(directory).arg(release.file_name());
        output_of(&mut depmod)?;
    }
    Ok(())
}
