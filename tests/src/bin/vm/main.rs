//! `vm [--lane resources|systemd] [--list] [--ran FILE] [NAME[::TEST]]...`: boots a virtual machine and runs tests in it, as
//! `tests/vm.md` says. Ends with 0 if every test passed there.
#![forbid(unsafe_code)]
mod cache;
mod cpio;
mod debian;
mod image;
mod kernel;
mod machine;
mod programs;
mod report;
mod suite;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Why the lane could not be run or did not end well, in words.
type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("vm: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Outcome<bool> {
    let mut lane = "resources";
    let mut wanted = Vec::new();
    let mut ran = None;
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--lane" => lane = words.next().ok_or("--lane needs a name")?,
            "--ran" => ran = Some(words.next().ok_or("--ran needs a file")?),
            "--list" => {
                suite::list();
                return Ok(true);
            }
            option if option.starts_with('-') => return Err(format!("no such option: {option}")),
            name => wanted.push(name.to_string()),
        }
    }
    if !matches!(lane, "resources" | "systemd") {
        return Err(format!("no such lane: {lane}; there are `resources` and `systemd`"));
    }
    if cannot_boot() {
        return Ok(true);
    }
    let began = Instant::now();
    let directory = image::work_directory()?;
    // What is Debian's is fetched once. Without its mirror there is no machine, and no fault of rspawn's.
    let fetched =
        kernel::fetch().and_then(|kernel| if lane == "systemd" { debian::tree().map(|_| kernel) } else { Ok(kernel) });
    let kernel = match fetched {
        Ok(kernel) => kernel,
        Err(why) => {
            return Ok(rspawn_tests::skip_unless(
                false,
                &format!("the virtual machine's Debian: {}", why.replace('\n', " ")),
            ));
        }
    };
    let mut jobs = suite::jobs(lane, &wanted)?;
    let stand_in = kernel.stand_in(&directory)?;
    let lacks_it = |job: &suite::Job| job.name == "vm_resctrl" && stand_in.is_none();
    if jobs.iter().any(lacks_it) {
        rspawn_tests::skip_unless(false, "vm_resctrl needs the kernel's headers: linux-headers-cloud-amd64");
        jobs.retain(|job| !lacks_it(job));
    }
    let (root, init) = match lane {
        "systemd" => (debian::root(&directory, &jobs)?, debian::INIT),
        _ => (programs::root(&directory, &jobs)?, programs::INIT),
    };
    let disks = image::disks(&directory, root.path())?;
    // The disk has it all by now.
    drop(root);
    let initramfs = image::initramfs(&directory, &kernel, stand_in)?;
    println!("vm: {} test programs on Linux {}; made in {} s", jobs.len(), kernel.release, began.elapsed().as_secs());
    let console = machine::boot(&kernel.image, &initramfs, &disks, init)?;
    drop(disks);
    let report = report::read(&console);
    if let Some(ran) = ran {
        report.note_ran(Path::new(ran)).map_err(|error| format!("{ran}: {error}"))?;
    }
    Ok(report.summary(&jobs, began.elapsed()))
}

/// What the lanes need of this machine. Whoever lacks it is told, as the tests tell it.
fn cannot_boot() -> bool {
    let on_path =
        |name: &str| ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].iter().any(|d| Path::new(d).join(name).exists());
    let lacking: Vec<&str> = ["qemu-system-x86_64", "mke2fs", "apt-get", "busybox", "strip"]
        .into_iter()
        .filter(|name| !on_path(name))
        .collect();
    rspawn_tests::skip_unless(cfg!(target_arch = "x86_64"), "the virtual machine is an x86_64 one")
        || rspawn_tests::skip_unless(rspawn_tests::is_root(), "an image whose files are root's is made by root")
        || rspawn_tests::skip_unless(lacking.is_empty(), &format!("the virtual machine needs {}", lacking.join(", ")))
}
