//! Operations inside the container's namespaces, one function each.
//!
//! Safe for a hostile planner because: a target is resolved below the descriptor of its mount, or in the root's, and
//! never leaves it; mounts arrive detached and attributed; before the pivot every mount is verified to be where the
//! container will find it; names and sysctls are written only where the structural check has seen a namespace of the
//! container's own; nothing here reads a file of the image but `copy_up`, which copies bytes and interprets none.
use alloc::{format, string::String, vec::Vec};
use core::cell::Cell;

use rspawn_proto::ids::{HostPath, Id, RelPath, Slot};
use rspawn_proto::msg::FromStage;
use rspawn_proto::plan::*;
use rspawn_proto::sysctl::sysctl_path;
use rspawn_sys::file::{self, Resolve, Status};
use rspawn_sys::{Errno, Failure, Fd, Named, Outcome, channel, mount, net};

use crate::copy_up::{copy_mode, copy_up};
use crate::objects::{new_filesystem, node_type, set_attributes, verify};
use crate::slots::Slots;
use crate::target::{Leaf, Tree};
use crate::terminal::open_terminal;

/// How a root is built, beside what the plan says.
pub struct BuildOptions<'a> {
    /// rspawn-init enters the root by chroot(2), and needs its descriptor.
    pub hands_root: bool,
    /// There is no pivot, and these mounts of the host's go.
    pub kernel_mounts: Option<&'a [HostPath]>,
    /// Where the worker cannot make a procfs, one to write sysctls through.
    pub procfs: Option<Fd>,
}

/// A container's root under construction.
pub struct Rootfs<'a> {
    /// To rspawn-setup.
    socket: &'a Fd,
    /// rspawn-setup has said that the pivot may come.
    resumed: bool,
    options: &'a BuildOptions<'a>,
    root: Option<Fd>,
    /// What lies below it, out of the container's sight.
    below: Option<Slot>,
    /// The root and that are attached over `/` itself.
    over_all: bool,
    /// Every mount of the container's tree, in order.
    mounted: Vec<Mounted>,
    /// Paths over a link of the image that led to nothing that could be covered.
    absent: Vec<RelPath>,
}

/// A mount of the container's tree.
struct Mounted {
    path: RelPath,
    found: Status,
    /// A link of the image led there.
    linked: bool,
    /// It is a copy of what was there, made read-only.
    copy: bool,
}

impl<'p> Rootfs<'p> {
    pub fn new(socket: &'p Fd, options: &'p BuildOptions) -> Self {
        let (mounted, absent) = (Vec::new(), Vec::new());
        Self { socket, options, resumed: false, root: None, below: None, over_all: false, mounted, absent }
    }

    fn root(&self) -> Outcome<&Fd> {
        self.root.as_ref().ok_or_else(|| Failure::check("the container's root is not attached"))
    }

    /// Tells rspawn-setup what it cannot know otherwise; descriptors ride along.
    fn send(&self, message: &FromStage, fds: &[&Fd]) -> Outcome<()> {
        channel::send_value(self.socket, message, fds).named("sendmsg")
    }

    /// Waits for the only message that a worker ever gets, which is empty: rspawn-init is ready for the pivot, and the
    /// hooks have run, if there are any.
    fn wait_to_resume(&mut self) -> Outcome<()> {
        if !core::mem::replace(&mut self.resumed, true) {
            channel::receive(self.socket, 0).named("recvmsg")?.ok_or_else(|| Failure::check("rspawn-setup died"))?;
        }
        Ok(())
    }

    fn tree<'a>(&'a self, slots: &'a Slots) -> Outcome<Tree<'a>> {
        Ok(Tree { root: self.root()?, slots, links: true, linked: Cell::new(false) })
    }

    /// Carries out one operation.
    pub fn carry_out(&mut self, op: &RootfsOp, slots: &mut Slots) -> Outcome<()> {
        match op {
            RootfsOp::Propagate { propagation, recursive } => propagate(*propagation, *recursive)?,
            RootfsOp::AttachRoot { mount, over, below } => self.attach_root(*mount, *over, *below, slots)?,
            // Made before, by one who can.
            RootfsOp::NewFilesystem { out, .. } if slots.filled(*out).is_some() => {}
            RootfsOp::NewFilesystem { out, fs, params, attrs } => {
                let made = new_filesystem(fs.name(), params, *attrs, slots)?;
                slots.fill(*out, made);
            }
            RootfsOp::CopyUp { mount, from } | RootfsOp::CopyMode { mount, from } => {
                let copy = if matches!(op, RootfsOp::CopyUp { .. }) { copy_up } else { copy_mode };
                let found = self.tree(slots)?.find(from)?;
                found.map_or(Ok(()), |found| copy(&found, slots.get(*mount)?))?;
            }
            RootfsOp::Attach { mount, at, no_symlinks } => self.attach(*mount, at, *no_symlinks, slots)?,
            RootfsOp::CloneTree { out, from, recursive } => {
                let found = self.tree(slots)?.find_existing(from)?;
                slots.fill(*out, mount::clone_tree(&found, *recursive).named("open_tree")?);
            }
            RootfsOp::AttachLink { mount, at, copy, follow } => self.attach_link(*mount, at, *copy, *follow, slots)?,
            RootfsOp::SetAttrs { mount, attrs } => set_attributes(slots.get(*mount)?, attrs, slots)?,
            RootfsOp::MakeDirectory { at, mode } => {
                self.tree(slots)?.find_or_create(at, Leaf::Directory { mode: *mode }).map(drop)?;
            }
            RootfsOp::MakeSymlink { at, target } => make_symlink(&self.tree(slots)?, at, target.as_str())?,
            RootfsOp::MakeNode { at, kind, major, minor, mode, uid, gid } => {
                let expect = Expect::Device { kind: *kind, major: *major, minor: *minor };
                let mode = *mode | node_type(*kind);
                make_node(&self.tree(slots)?, at, mode, (*major, *minor), (*uid, *gid), expect)?;
            }
            RootfsOp::Console { devpts, console, rows, columns, uid } => {
                let found = self.tree(slots)?.find_existing(devpts)?;
                let (master, slave) = open_terminal(&found, *uid, (*rows, *columns))?;
                self.show_console(&slave, console, slots)?;
                self.send(&FromStage::Console, &[&master, &slave])?;
            }
            RootfsOp::Mask { at, covers, needed } => self.mask(at, slots.get(*covers)?, *needed, slots)?,
            RootfsOp::ReadOnly { at, out } => {
                if let Some(cover) = self.read_only(at, slots)? {
                    slots.fill(*out, cover);
                }
            }
            RootfsOp::Sysctl { key, value } => self.write_sysctl(key.as_str(), value.as_str())?,
            RootfsOp::Hostname { name } => rspawn_sys::tune::set_hostname(name.as_str()).named("sethostname")?,
            RootfsOp::Domainname { name } => rspawn_sys::tune::set_domainname(name.as_str()).named("setdomainname")?,
            RootfsOp::LoopbackUp => net::loopback_up().named("ioctl SIOCSIFFLAGS")?,
            RootfsOp::Hooks => {
                self.send(&FromStage::Mounted, &[])?;
                self.wait_to_resume()?;
            }
            RootfsOp::Pivot => self.pivot()?,
        }
        Ok(())
    }

    /// The root is attached over `/`, which hides nothing that a later step needs: host paths are opened already. Or
    /// where hooks look for it: in this namespace's copy of the place that was opened in the host's.
    fn attach_root(&mut self, mount: Slot, over: Option<Slot>, below: Option<Slot>, slots: &Slots) -> Outcome<()> {
        (self.below, self.over_all) = (below, over.is_none());
        let [over, below] = [over, below].map(|slot| slot.map(|slot| slots.get(slot)).transpose());
        let (mount, over, below) = (slots.get(mount)?, over?, below?);
        let place = over.map_or(Ok("/".into()), file::fd_path).named("readlinkat")?;
        let target = file::open_host(&place, file::O_PATH).named("openat2")?;
        if let Some(over) = over
            && !file::is_same(over, &target).named("statx")?
        {
            return Err(Failure::check("another directory has taken its place"));
        }
        below.map_or(Ok(()), |below| mount::attach(below, &target)).named("move_mount")?;
        mount::attach(mount, &target).named("move_mount")?;
        self.root = Some(mount.duplicate(3).named("fcntl")?);
        if self.options.hands_root { self.send(&FromStage::Root, &[self.root()?]) } else { Ok(()) }
    }

    fn attach(&mut self, mount: Slot, at: &Target, no_symlinks: bool, slots: &Slots) -> Outcome<()> {
        let mount = slots.get(mount)?;
        // Whatever the plan says: a link of the image must not decide where procfs and sysfs go.
        let tree = Tree { links: !no_symlinks && !is_kernels(mount)?, ..self.tree(slots)? };
        let is_directory = |file: &Fd| file::status(file).named("statx").map(|found| found.is_directory());
        let directory = is_directory(mount)?;
        let leaf = if directory { Leaf::Directory { mode: 0o755 } } else { Leaf::File };
        let target = tree.find_or_create(at, leaf)?;
        let linked = tree.linked.get();
        match self.place(mount, &target, at, linked, false) {
            Err(failure) if failure.errno == Errno::EINVAL.0 && is_directory(&target)? != directory => {
                Err(Errno::ENOTDIR).named("move_mount").map_err(|f| f.with("only one of the two is a directory"))
            }
            attached => attached,
        }
    }

    /// A link that was cloned is not attached but made anew, if that is asked for; a link that is mounted on is opened
    /// by its name, in its directory.
    fn attach_link(&mut self, mount: Slot, at: &Target, copy: bool, follow: bool, slots: &Slots) -> Outcome<()> {
        let tree = self.tree(slots)?;
        let open =
            |parent: &Fd, name| file::open_at(parent, name, file::O_PATH | file::O_NOFOLLOW, 0, Resolve::Beneath);
        let link = link_text(slots.get(mount)?)?;
        if let (true, Some(text)) = (copy, &link) {
            make_symlink(&tree, at, text)?;
            let (parent, name) = tree.open_parent(at)?;
            let there = link_text(&open(&parent, name).named("openat2")?)?;
            return if there == link { Ok(()) } else { Err(Errno::EEXIST).named("symlinkat") };
        }
        let (parent, name) = tree.open_parent(at)?;
        let there = match open(&parent, name) {
            Err(Errno::ENOENT) => None,
            there => Some(there.named("openat2")?),
        };
        match there {
            Some(target) if !follow && link_text(&target)?.is_some() => {
                self.place(slots.get(mount)?, &target, at, true, false)?
            }
            _ => self.attach(mount, at, false, slots)?,
        }
        if link.is_some() {
            // What is found at its path later is where it leads.
            self.mounted.pop();
        }
        Ok(())
    }

    /// Attaches a mount on an opened target, and remembers where it is.
    fn place(&mut self, mount: &Fd, target: &Fd, at: &Target, linked: bool, copy: bool) -> Outcome<()> {
        mount::attach(mount, target).named("move_mount")?;
        if self.below != Some(at.mount) {
            let found = file::status(mount).named("statx")?;
            self.mounted.push(Mounted { path: at.path.clone(), found, linked, copy });
        }
        Ok(())
    }

    fn show_console(&mut self, slave: &Fd, console: &Target, slots: &Slots) -> Outcome<()> {
        let tree = self.tree(slots)?;
        let (target, linked) = (tree.find_or_create(console, Leaf::File)?, tree.linked.get());
        let bind = mount::clone_tree(slave, false).named("open_tree")?;
        self.place(&bind, &target, console, linked, false)
    }

    /// What is to be covered, and whether a link of the image led there.
    fn find_to_cover(&mut self, at: &Target, slots: &Slots) -> Outcome<Option<(Fd, bool)>> {
        let tree = self.tree(slots)?;
        let (found, linked) = (tree.find(at)?, tree.linked.get());
        if found.is_none() && linked {
            self.absent.push(at.path.clone());
        }
        Ok(found.map(|found| (found, linked)))
    }

    fn mask(&mut self, at: &Target, covers: &Fd, needed: bool, slots: &Slots) -> Outcome<()> {
        let Some((target, linked)) = self.find_to_cover(at, slots)? else {
            return if needed { Err(Failure::of("openat2", Errno::ENOENT)) } else { Ok(()) };
        };
        let directory = file::status(&target).named("statx")?.is_directory();
        let name = if directory { MASK_EMPTY } else { MASK_NULL };
        let cover = file::open_at(covers, name, file::O_PATH, 0, Resolve::InRootNoLinks).named("openat2")?;
        verify(&cover, if directory { Expect::Directory } else { Expect::NullDevice })?;
        let clone = mount::clone_tree(&cover, false).named("open_tree")?;
        self.place(&clone, &target, at, linked, false)
    }

    fn read_only(&mut self, at: &Target, slots: &Slots) -> Outcome<Option<Fd>> {
        let Some((target, linked)) = self.find_to_cover(at, slots)? else { return Ok(None) };
        let cover = mount::clone_tree(&target, true).named("open_tree")?;
        let read_only = MountAttrs { set: attr::RDONLY, ..MountAttrs::default() };
        mount::set_attributes(&cover, &read_only, None).named("mount_setattr")?;
        self.place(&cover, &target, at, linked, true)?;
        Ok(Some(cover))
    }

    fn pivot(&mut self) -> Outcome<()> {
        self.wait_to_resume()?;
        self.verify_mounted()?;
        if let Some(gone) = self.options.kernel_mounts {
            return self.move_over_all(gone);
        }
        file::change_directory(self.root()?).named("fchdir")?;
        mount::pivot_to_working_directory().named("pivot_root")?;
        if self.over_all && self.below.is_some() {
            // What lay below this root lies on top of the old one now.
            mount::drop_old_root().named("umount2")?;
        }
        mount::drop_old_root().named("umount2")
    }

    /// In the place of the pivot: rspawn-init has entered the root by chroot(2), and sees nothing that is attached on
    /// top of it; for whoever joins this namespace the root is what lies on top. The host's procfs and sysfs go.
    fn move_over_all(&self, kernel_mounts: &[HostPath]) -> Outcome<()> {
        let slash = file::open_host("/", file::O_PATH).named("openat2")?;
        mount::attach(self.root()?, &slash).named("move_mount")?;
        kernel_mounts.iter().try_for_each(|path| take_away(path.as_str()))
    }

    /// Writes below a procfs of our own that is never attached: nothing of the container can stand in for its files
    /// (CVE-2025-52881).
    fn write_sysctl(&self, key: &str, value: &str) -> Outcome<()> {
        let path = format!("sys/{}", sysctl_path(key));
        let write = |procfs: &Fd| {
            let file = file::open_at(procfs, &path, file::O_WRONLY, 0, Resolve::Beneath).named("openat2")?;
            file.write(value.as_bytes()).named("write")
        };
        match &self.options.procfs {
            Some(procfs) => write(procfs),
            None => write(&new_filesystem("proc", &[], 0, &Slots::default())?),
        }
    }

    /// Each path leads to what was mounted there, or to what was mounted over it later; and what was not there to be
    /// covered still is not. Else somebody who shares the root filesystem has renamed directories meanwhile, and the
    /// container would find another /proc.
    fn verify_mounted(&self) -> Outcome<()> {
        let look = |path: &RelPath| {
            file::open_at(self.root()?, path.as_str(), file::O_PATH, 0, Resolve::InRoot).named("openat2")
        };
        let own = file::status(self.root()?).named("statx")?.mount;
        for (index, Mounted { path, found, .. }) in self.mounted.iter().enumerate() {
            let is_right = match look(path).and_then(|there| file::status(&there).named("statx")) {
                Ok(there) => there.mount == found.mount || self.is_covered(index, Some(&there), own),
                Err(_) => self.is_covered(index, None, own),
            };
            if !is_right {
                let reason = format!("{} does not lead to what was mounted there: it was renamed", path.absolute());
                return Err(Failure::check(&reason));
            }
        }
        match self.absent.iter().find(|path| look(path).is_ok()) {
            Some(path) => Err(Failure::check(&format!("{} has appeared, and is not covered", path.absolute()))),
            None => Ok(()),
        }
    }

    /// Whether what is found at the path of a mount is of a later one: at the path or above it; or, where a link of the
    /// image led to either, that one, or a copy that was made of this one.
    fn is_covered(&self, index: usize, there: Option<&Status>, own: u64) -> bool {
        let Mounted { path, found, linked, .. } = &self.mounted[index];
        // Of a mount that nobody knows but who copied it with what it lay on.
        let is_new =
            |there: &Status| own != there.mount && self.mounted.iter().all(|known| known.found.mount != there.mount);
        let is_over_link = |later: &Mounted| {
            let is_it = |there: &Status| {
                there.mount == later.found.mount || (later.copy && is_new(there) && there.is_same(found))
            };
            (*linked || later.linked) && there.is_some_and(is_it)
        };
        self.mounted[index + 1..].iter().any(|later| later.path.leads_to(path) || is_over_link(later))
    }
}

fn make_symlink(tree: &Tree, at: &Target, target: &str) -> Outcome<()> {
    let (parent, name) = tree.open_parent(at)?;
    match file::make_symlink(target, &parent, name) {
        // An image may bring its own; a link decides nothing here that the image could not decide itself.
        Err(Errno::EEXIST) => Ok(()),
        made => made.named("symlinkat"),
    }
}

fn make_node(
    tree: &Tree,
    at: &Target,
    mode: u32,
    (major, minor): (u32, u32),
    (uid, gid): (Id, Id),
    expect: Expect,
) -> Outcome<()> {
    let (parent, name) = tree.open_parent(at)?;
    let made = file::make_node(&parent, name, mode, major, minor);
    if made != Err(Errno::EEXIST) {
        made.named("mknodat")?;
    }
    let node = file::open_at(&parent, name, file::O_PATH | file::O_NOFOLLOW, 0, Resolve::Beneath).named("openat2")?;
    verify(&node, expect)?;
    if (uid, gid) != (Id::ROOT, Id::ROOT) {
        file::change_owner(&node, uid.raw(), gid.raw()).named("fchownat")?;
    }
    Ok(())
}

/// Whether something is on a procfs or sysfs.
fn is_kernels(file: &Fd) -> Outcome<bool> {
    Ok(matches!(file::filesystem_magic(file).named("fstatfs")?, libc::PROC_SUPER_MAGIC | libc::SYSFS_MAGIC))
}

/// Takes a mount of the host's out of this namespace; or, where it is locked to it, as in one that belongs to a user
/// namespace, covers it.
fn take_away(path: &str) -> Outcome<()> {
    match mount::detach(path) {
        Err(Errno::EINVAL | Errno::EPERM) => {}
        detached => return detached.named("umount2").map_err(|failure| failure.with(path)),
    }
    let place = file::open_host(path, file::O_PATH | file::O_NOFOLLOW).named("openat2")?;
    // What is hidden by another mount cannot be covered, and counts as visible to the kernel.
    if !is_kernels(&place)? {
        let reason =
            format!("--no-pivot: the host's filesystem at {path} lies below another, and cannot be taken away");
        return Err(Failure::check(&reason));
    }
    let cover = new_filesystem("tmpfs", &[], attr::RDONLY, &Slots::default())?;
    mount::attach(&cover, &place).named("move_mount").map_err(|failure| failure.with(path))
}

/// Where a link held by an O_PATH descriptor leads; of anything else readlinkat says ENOENT.
fn link_text(file: &Fd) -> Outcome<Option<String>> {
    match file::read_link(file) {
        Err(Errno::ENOENT) => Ok(None),
        link => link.map(Some).named("readlinkat"),
    }
}

fn propagate(propagation: Propagation, recursive: bool) -> Outcome<()> {
    let slash = file::open_host("/", file::O_PATH).named("openat2")?;
    let attrs = MountAttrs { propagation: Some(propagation), recursive, ..MountAttrs::default() };
    mount::set_attributes(&slash, &attrs, None).named("mount_setattr")
}
