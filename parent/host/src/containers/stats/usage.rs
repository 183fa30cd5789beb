//! The few numbers that `top` shows. The files are opened by one process and read by another: they are so few that
//! their descriptors ride on one message.
use std::fs::File;
use std::os::fd::IntoRawFd;

use bincode::{Decode, Encode};
use rspawn_proto::record::CgroupDir;
use rspawn_sys::Fd;

use super::v2::pressure;

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum StatFile {
    CpuNanoseconds,
    /// cpu.stat of v2, of which a line is the time in microseconds.
    CpuStat,
    Memory,
    MemoryLimit,
    Pids,
    PidsLimit,
    CpuPressure,
    MemoryPressure,
    IoPressure,
}

type Named = (StatFile, &'static str);

/// Controller, file of v1, file of v2. Pressure is told by v2 alone, in a hybrid layout too.
const FILES: [(&str, Option<Named>, Named); 8] = [
    ("cpuacct", Some((StatFile::CpuNanoseconds, "cpuacct.usage")), (StatFile::CpuStat, "cpu.stat")),
    ("memory", Some((StatFile::Memory, "memory.usage_in_bytes")), (StatFile::Memory, "memory.current")),
    ("memory", Some((StatFile::MemoryLimit, "memory.limit_in_bytes")), (StatFile::MemoryLimit, "memory.max")),
    ("pids", Some((StatFile::Pids, "pids.current")), (StatFile::Pids, "pids.current")),
    ("pids", Some((StatFile::PidsLimit, "pids.max")), (StatFile::PidsLimit, "pids.max")),
    ("", None, (StatFile::CpuPressure, "cpu.pressure")),
    ("", None, (StatFile::MemoryPressure, "memory.pressure")),
    ("", None, (StatFile::IoPressure, "io.pressure")),
];

/// Opens what there is of a container's cgroups.
pub fn open(cgroups: &[CgroupDir]) -> Vec<(StatFile, Fd)> {
    let v2 = cgroups.iter().find(|cgroup| cgroup.hierarchy.as_str().is_empty());
    let opened = FILES.iter().filter_map(|(controller, in_v1, in_v2)| {
        let has = |cgroup: &&CgroupDir| cgroup.hierarchy.as_str().split(',').any(|name| name == *controller);
        let v1 = in_v1.and_then(|file| Some((cgroups.iter().find(has)?, file)));
        let (cgroup, (what, name)) = v1.or_else(|| Some((v2?, *in_v2)))?;
        let file = File::open(format!("{}/{name}", cgroup.path)).ok()?;
        Some((what, Fd::from_raw(file.into_raw_fd())))
    });
    opened.collect()
}

/// Nothing where nobody counts.
#[derive(Debug, Default, PartialEq)]
pub struct UsageSample {
    /// Time of all CPUs together, in nanoseconds.
    pub cpu: Option<u64>,
    pub memory: Option<u64>,
    pub memory_limit: Option<u64>,
    pub pids: Option<u64>,
    pub pids_limit: Option<u64>,
    /// Per cent of the last ten seconds in which something waited for CPU, memory and I/O.
    pub pressure: [Option<f64>; 3],
}

/// v1 says "no limit" by the largest number that is whole pages.
const NO_LIMIT: u64 = 1 << 62;

/// Reads the files from where they stand: they are new.
pub fn read(files: &[(StatFile, Fd)]) -> UsageSample {
    let mut few = UsageSample::default();
    for (what, file) in files {
        let mut buffer = [0u8; 4096];
        // A file can be there and say, by an error, that its kernel does not count.
        let Ok(length) = file.read(&mut buffer) else { continue };
        note(&mut few, *what, &String::from_utf8_lossy(&buffer[..length]));
    }
    few
}

fn note(few: &mut UsageSample, what: StatFile, text: &str) {
    let number = || text.trim().parse::<u64>().ok();
    let some = || pressure(text).map(|psi| psi.some.avg10);
    match what {
        StatFile::CpuNanoseconds => few.cpu = number(),
        StatFile::CpuStat => {
            let time = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
            few.cpu = time.and_then(|time| time.trim().parse::<u64>().ok()?.checked_mul(1000));
        }
        StatFile::Memory => few.memory = number(),
        StatFile::MemoryLimit => few.memory_limit = number().filter(|limit| *limit < NO_LIMIT),
        StatFile::Pids => few.pids = number(),
        StatFile::PidsLimit => few.pids_limit = number(),
        StatFile::CpuPressure => few.pressure[0] = some(),
        StatFile::MemoryPressure => few.pressure[1] = some(),
        StatFile::IoPressure => few.pressure[2] = some(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use rspawn_proto::ids::{HostPath, Text};

    use super::*;

    fn directory(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("rspawn-few-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        files.iter().for_each(|(name, text)| fs::write(directory.join(name), text).unwrap());
        directory
    }

    fn cgroup(hierarchy: &str, path: &Path) -> CgroupDir {
        let path = HostPath::new(path.to_str().unwrap()).unwrap();
        CgroupDir { hierarchy: Text::new(hierarchy).unwrap(), path, shared: false }
    }

    #[test]
    fn every_layout_gives_its_numbers() {
        let v2 = directory(
            "v2",
            &[
                ("cpu.stat", "usage_usec 30\nuser_usec 20\n"),
                ("memory.current", "1000\n"),
                ("memory.max", "max\n"),
                ("pids.current", "6\n"),
                ("pids.max", "40\n"),
                ("cpu.pressure", "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\n"),
                ("io.pressure", "some avg10=0.00 avg60=0.25 avg300=0.00 total=77\n"),
            ],
        );
        let v1 = directory(
            "v1",
            &[
                ("cpuacct.usage", "777\n"),
                ("memory.usage_in_bytes", "2000\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
            ],
        );
        let pressure = [Some(1.5), None, Some(0.0)];
        let of_v2 = UsageSample {
            cpu: Some(30_000),
            memory: Some(1000),
            memory_limit: None,
            pids: Some(6),
            pids_limit: Some(40),
            pressure,
        };
        let read_of = |cgroups: &[CgroupDir]| read(&open(cgroups));
        assert_eq!(read_of(&[cgroup("", &v2)]), of_v2);
        // Of a hybrid layout each from where it is; pids are counted by v2 here.
        let hybrid = [cgroup("cpu,cpuacct", &v1), cgroup("memory", &v1), cgroup("", &v2)];
        assert_eq!(read_of(&hybrid), UsageSample { cpu: Some(777), memory: Some(2000), ..of_v2 });
        assert_eq!(read_of(&[]), UsageSample::default());
        [v1, v2].iter().for_each(|directory| fs::remove_dir_all(directory).unwrap());
    }
}
