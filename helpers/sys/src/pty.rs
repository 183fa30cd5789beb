//! Pseudoterminals, by descriptor only.
use crate::file;
use crate::raw::sys;
use crate::{Fd, Result};

/// The slave of a master, opened through the master: a name such as /dev/pts/0 could be anything (CVE-2025-52565).
pub fn open_slave(master: &Fd) -> Result<Fd> {
    let unlock = 0i32;
    sys!(SYS_ioctl, master, libc::TIOCSPTLCK, &raw const unlock)?;
    let flags = file::O_RDWR | file::O_NOCTTY | libc::O_CLOEXEC;
    sys!(SYS_ioctl, master, libc::TIOCGPTPEER, flags).map(Fd::returned)
}

pub fn set_size(terminal: &Fd, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    sys!(SYS_ioctl, terminal, libc::TIOCSWINSZ, &raw const size).map(drop)
}

/// Has lines end as they are written: without ONLCR of termios(3).
pub fn keep_line_ends(terminal: &Fd) -> Result<()> {
    // struct termios of the kernel: four words of flags, the second that of output, then characters.
    let mut settings = [0u32; 9];
    sys!(SYS_ioctl, terminal, libc::TCGETS, settings.as_mut_ptr())?;
    settings[1] &= !libc::ONLCR;
    sys!(SYS_ioctl, terminal, libc::TCSETS, settings.as_ptr()).map(drop)
}

/// Makes a terminal the controlling one of this session.
pub fn take_as_controlling(terminal: &Fd) -> Result<()> {
    sys!(SYS_ioctl, terminal, libc::TIOCSCTTY, 0).map(drop)
}

/// Makes a process group the terminal's foreground group.
pub fn set_foreground(terminal: &Fd, group: i32) -> Result<()> {
    sys!(SYS_ioctl, terminal, libc::TIOCSPGRP, &raw const group).map(drop)
}

/// Rows and columns of a terminal.
pub fn size(terminal: &Fd) -> Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    sys!(SYS_ioctl, terminal, libc::TIOCGWINSZ, &raw mut size)?;
    Ok((size.ws_row, size.ws_col))
}
