//! Operations inside the container's namespaces, one function each.
//!
//! Safe for a hostile planner because: paths are [`RelPath`]s resolved in the root's descriptor; mounts arrive
//! detached and attributed; names and sysctls are written only where the structural check has seen a namespace of the
//! container's own; nothing here reads a file of the image but `copy_up`, which copies bytes and interprets none.
use alloc::format;
use alloc::vec::Vec;

use rspawn_proto::check::sysctl_path;
use rspawn_proto::ids::{Id, RelPath, Slot};
use rspawn_proto::msg::FromStage;
use rspawn_proto::plan::*;
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Errno, Fd, mount, net, pty};

use crate::host::{Slots, new_filesystem, node_type, set_attributes, verify};
use crate::target::{Leaf, find, find_or_create, open_parent};
use rspawn_sys::failure::{Failure, Named, Outcome};

/// Filesystem magics, `linux/magic.h`.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// A container's root under construction.
#[derive(Default)]
pub struct Rootfs {
    root: Option<Fd>,
    /// Covers of masks that have their first place.
    placed: Vec<Slot>,
}

/// Tells rspawn-setup what it cannot know otherwise; descriptors ride along.
pub type Tell<'a> = &'a dyn Fn(&FromStage, &[&Fd]) -> rspawn_sys::Result<()>;

impl Rootfs {
    pub fn root(&self) -> Outcome<&Fd> {
        self.root.as_ref().ok_or_else(|| Failure::check("the container's root is not attached"))
    }

    /// Carries out one operation.
    pub fn carry_out(&mut self, op: &RootfsOp, slots: &mut Slots, tell: Tell) -> Outcome<()> {
        match op {
            RootfsOp::Propagate { propagation, recursive } => propagate(*propagation, *recursive)?,
            RootfsOp::AttachRoot { mount, over } => {
                let over = over.map(|over| slots.get(over)).transpose()?;
                self.attach_root(slots.get(*mount)?, over)?;
            }
            RootfsOp::NewFilesystem { out, fs, params, attrs } => {
                let made = new_virtual_filesystem(*fs, params, *attrs, slots)?;
                slots.fill(*out, made);
            }
            RootfsOp::CopyUp { mount, from } => crate::copy_up::copy_up(self.root()?, from, slots.get(*mount)?)?,
            RootfsOp::CopyMode { mount, from } => crate::copy_up::copy_mode(self.root()?, from, slots.get(*mount)?)?,
            RootfsOp::Attach { mount, at, missing, no_symlinks } => {
                self.attach(slots.get(*mount)?, at, *missing, *no_symlinks)?;
            }
            RootfsOp::SetAttrs { mount, attrs } => set_attributes(slots.get(*mount)?, attrs, slots)?,
            RootfsOp::MakeDirectory { at, mode } => {
                find_or_create(self.root()?, at, Resolve::InRoot, Leaf::Directory { mode: *mode }).map(drop)?;
            }
            RootfsOp::MakeSymlink { at, target } => self.make_symlink(at, target.as_str())?,
            RootfsOp::MakeNode { at, kind, major, minor, mode, uid, gid } => {
                let expect = Expect::Device { kind: *kind, major: *major, minor: *minor };
                self.make_node(at, *mode | node_type(*kind), (*major, *minor), (*uid, *gid), expect)?;
            }
            RootfsOp::Console { devpts, rows, columns, uid } => {
                let size = (*rows, *columns);
                let (master, slave) = match devpts {
                    Some(devpts) => open_terminal(slots.get(*devpts)?, *uid, size)?,
                    None => {
                        let found = file::open_at(self.root()?, "dev/pts", file::O_PATH, 0, Resolve::InRoot);
                        open_terminal(&found.named("openat2")?, *uid, size)?
                    }
                };
                self.console(&slave)?;
                tell(&FromStage::Console, &[&master, &slave]).named("sendmsg")?;
            }
            RootfsOp::Mask { at, null, empty } => self.mask(at, *null, *empty, slots)?,
            RootfsOp::ReadOnly { at } => self.read_only(at)?,
            RootfsOp::Sysctl { key, value } => write_sysctl(key.as_str(), value.as_str())?,
            RootfsOp::Hostname { name } => rspawn_sys::tune::set_hostname(name.as_str()).named("sethostname")?,
            RootfsOp::Domainname { name } => rspawn_sys::tune::set_domainname(name.as_str()).named("setdomainname")?,
            RootfsOp::LoopbackUp => net::loopback_up().named("ioctl SIOCSIFFLAGS")?,
            RootfsOp::Pivot => self.pivot()?,
            // The worker's own, which holds the socket.
            RootfsOp::Hooks => {}
        }
        Ok(())
    }

    /// The root is attached over `/`, which hides nothing that a later step needs: host paths are opened already. Or
    /// where hooks look for it: in this namespace's copy of the place that was opened in the host's.
    fn attach_root(&mut self, mount: &Fd, over: Option<&Fd>) -> Outcome<()> {
        let place = over.map_or(Ok("/".into()), file::place).named("readlinkat")?;
        let target = file::open_host(&place, file::O_PATH).named("openat2")?;
        if let Some(over) = over
            && !file::is_same(over, &target).named("statx")?
        {
            return Err(Failure::check("another directory has taken its place"));
        }
        mount::attach(mount, &target).named("move_mount")?;
        self.root = Some(mount.duplicate(3).named("fcntl")?);
        Ok(())
    }

    fn attach(&self, mount: &Fd, at: &RelPath, missing: Missing, no_symlinks: bool) -> Outcome<()> {
        // Whatever the plan says: a link of the image must not decide where procfs and sysfs go.
        let is_system = matches!(file::filesystem_magic(mount).named("fstatfs")?, PROC_SUPER_MAGIC | SYSFS_MAGIC);
        let resolve = if no_symlinks || is_system { Resolve::InRootNoLinks } else { Resolve::InRoot };
        let is_directory = |file: &Fd| file::status(file).named("statx").map(|found| found.is_directory());
        let directory = is_directory(mount)?;
        let target = match missing {
            Missing::Skip => match find(self.root()?, at, resolve)? {
                Some(found) => found,
                None => return Ok(()),
            },
            Missing::Create => {
                let leaf = if directory { Leaf::Directory { mode: 0o755 } } else { Leaf::File };
                find_or_create(self.root()?, at, resolve, leaf)?
            }
        };
        match mount::attach(mount, &target) {
            Err(Errno::EINVAL) if is_directory(&target)? != directory => {
                Err(Errno::ENOTDIR).named("move_mount").map_err(|f| f.with("one is a directory, the other is not"))
            }
            attached => attached.named("move_mount"),
        }
    }

    fn make_symlink(&self, at: &RelPath, target: &str) -> Outcome<()> {
        let (parent, name) = open_parent(self.root()?, at, Resolve::InRoot)?;
        match file::make_symlink(target, &parent, name) {
            // An image may bring its own; a link decides nothing here that the image could not decide itself.
            Err(Errno::EEXIST) => Ok(()),
            made => made.named("symlinkat"),
        }
    }

    fn make_node(&self, at: &RelPath, mode: u32, device: (u32, u32), owner: (Id, Id), expect: Expect) -> Outcome<()> {
        let (parent, name) = open_parent(self.root()?, at, Resolve::InRoot)?;
        let made = file::make_node(&parent, name, mode, device.0, device.1);
        if made != Err(Errno::EEXIST) {
            made.named("mknodat")?;
        }
        let node =
            file::open_at(&parent, name, file::O_PATH | file::O_NOFOLLOW, 0, Resolve::Beneath).named("openat2")?;
        verify(&node, expect)?;
        if owner != (Id::ROOT, Id::ROOT) {
            file::change_owner(&node, owner.0.raw(), owner.1.raw()).named("fchownat")?;
        }
        Ok(())
    }

    fn console(&self, slave: &Fd) -> Outcome<()> {
        let at = RelPath::new("dev/console").map_err(Failure::check)?;
        let target = find_or_create(self.root()?, &at, Resolve::InRoot, Leaf::File)?;
        let bind = mount::clone_tree(slave, false).named("open_tree")?;
        mount::attach(&bind, &target).named("move_mount")
    }

    fn mask(&mut self, at: &RelPath, null: Slot, empty: Slot, slots: &Slots) -> Outcome<()> {
        let Some(target) = find(self.root()?, at, Resolve::InRoot)? else { return Ok(()) };
        let directory = file::status(&target).named("statx")?.is_directory();
        let slot = if directory { empty } else { null };
        let cover = slots.get(slot)?;
        if !directory {
            verify(cover, Expect::NullDevice)?;
        }
        // Only a mount that is attached in this namespace can be cloned (before Linux 6.15), so the first mask takes
        // the cover itself, and the others take clones of it.
        if self.placed.contains(&slot) {
            let clone = mount::clone_tree(cover, false).named("open_tree")?;
            return mount::attach(&clone, &target).named("move_mount");
        }
        self.placed.push(slot);
        mount::attach(cover, &target).named("move_mount")
    }

    fn read_only(&self, at: &RelPath) -> Outcome<()> {
        let Some(target) = find(self.root()?, at, Resolve::InRoot)? else { return Ok(()) };
        let cover = mount::clone_tree(&target, true).named("open_tree")?;
        let read_only = MountAttrs { set: attr::RDONLY, ..MountAttrs::default() };
        mount::set_attributes(&cover, &read_only, None).named("mount_setattr")?;
        mount::attach(&cover, &target).named("move_mount")
    }

    fn pivot(&self) -> Outcome<()> {
        file::change_directory(self.root()?).named("fchdir")?;
        mount::pivot_to_working_directory().named("pivot_root")?;
        mount::drop_old_root().named("umount2")
    }

    /// In the place of the pivot: rspawn-init has entered the root by chroot(2), and for whoever joins this namespace
    /// the root is what lies on top.
    pub fn move_over_all(&self) -> Outcome<()> {
        let slash = file::open_host("/", file::O_PATH).named("openat2")?;
        mount::attach(self.root()?, &slash).named("move_mount")
    }
}

/// A pseudoterminal of a devpts, whose slave belongs to the payload's user.
pub fn open_terminal(devpts: &Fd, uid: Id, (rows, columns): (u16, u16)) -> Outcome<(Fd, Fd)> {
    let flags = file::O_RDWR | file::O_NOCTTY | file::O_NOFOLLOW;
    let master = file::open_at(devpts, "ptmx", flags, 0, Resolve::Beneath).named("openat2")?;
    let found = file::status(&master).named("statx")?;
    let genuine = file::filesystem_magic(&master).named("fstatfs")? == DEVPTS_SUPER_MAGIC
        && (found.major, found.minor, found.inode) == (5, 2, 2);
    if !genuine {
        return Err(Failure::check("the ptmx of the container's devpts is not genuine"));
    }
    if (rows, columns) != (0, 0) {
        pty::set_size(&master, rows, columns).named("ioctl TIOCSWINSZ")?;
    }
    let slave = pty::open_slave(&master).named("ioctl TIOCGPTPEER")?;
    if uid != Id::ROOT {
        let group = file::status(&slave).named("statx")?.gid;
        file::change_owner(&slave, uid.raw(), group).named("fchownat")?;
    }
    Ok((master, slave))
}

fn propagate(propagation: Propagation, recursive: bool) -> Outcome<()> {
    let slash = file::open_host("/", file::O_PATH).named("openat2")?;
    let attrs = MountAttrs { propagation: Some(propagation), recursive, ..MountAttrs::default() };
    mount::set_attributes(&slash, &attrs, None).named("mount_setattr")
}

fn new_virtual_filesystem(fs: VirtualFs, params: &[FsParam], attrs: u64, slots: &Slots) -> Outcome<Fd> {
    new_filesystem(fs.name(), params, attrs, slots)
}

/// Writes below a procfs of our own that is never attached: nothing of the container can stand in for its files
/// (CVE-2025-52881).
fn write_sysctl(key: &str, value: &str) -> Outcome<()> {
    let path = format!("sys/{}", sysctl_path(key));
    let procfs = new_filesystem("proc", &[], 0, &Slots::default())?;
    let file = file::open_at(&procfs, &path, file::O_WRONLY, 0, Resolve::Beneath).named("openat2")?;
    file.write(value.as_bytes()).named("write")
}
