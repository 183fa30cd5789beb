//! The container's terminal.
use rspawn_proto::ids::Id;
use rspawn_sys::file::{self, Resolve};
use rspawn_sys::{Failure, Fd, Named, Outcome, pty};

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// A pseudoterminal of a devpts, whose slave belongs to the payload's user.
pub fn open_terminal(devpts: &Fd, uid: Id, (rows, columns): (u16, u16)) -> Outcome<(Fd, Fd)> {
    // Before anything of it is opened, which some devices answer with an effect.
    if file::filesystem_magic(devpts).named("fstatfs")? != DEVPTS_SUPER_MAGIC {
        return Err(Failure::check("there is no devpts filesystem for the terminal"));
    }
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
