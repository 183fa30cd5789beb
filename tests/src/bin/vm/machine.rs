//! qemu, and what the machine says on its serial console.
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::image::Temporary;

/// Longer than a lane takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// Boots, shows the console as it comes, and returns its lines once the machine is off.
pub fn boot(kernel: &Path, initramfs: &Path, disks: &[Temporary], init: &str) -> Outcome<Vec<String>> {
    let mut qemu = Command::new("qemu-system-x86_64");
    // tcg, since machines for CI have no kvm that works. `max` has what Debian's programs may be built for.
    qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "2G", "-nographic", "-no-reboot", "-nodefaults"]);
    qemu.args(["-serial", "stdio", "-kernel"]).arg(kernel).arg("-initrd").arg(initramfs);
    // A panic ends the machine. Without `tsc=reliable` clocks are watched, which a loaded host upsets.
    let words = "console=ttyS0 quiet loglevel=1 panic=-1 oops=panic tsc=reliable mitigations=off nopti init_on_alloc=0";
    qemu.arg("-append").arg(format!("{words} vm.init={init} rdinit=/init"));
    for disk in disks {
        qemu.arg("-drive").arg(format!("if=virtio,format=raw,cache=unsafe,file={}", disk.path().display()));
    }
    let child = qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let mut child = child.map_err(|error| format!("qemu: {error}"))?;
    let console = BufReader::new(child.stdout.take().ok_or("qemu's output")?);
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in console.split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_string();
            if send.send(text).is_err() {
                return;
            }
        }
    });
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                // Whoever reads along may be gone; the result is the status.
                let _ = writeln!(std::io::stdout().lock(), "{line}");
                all.push(line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the machine was not done after {} s", PATIENCE.as_secs()));
            }
        }
    }
    child.wait().map_err(|error| format!("qemu: {error}"))?;
    Ok(all)
}
