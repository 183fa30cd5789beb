//! Controllers of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst of the kernel), put where v1 has the same, as runc
//! puts them.
use super::files::Files;
use super::values::{Blkio, BlkioEntry, Cpu, Memory, MemoryEntry, Pressure, Psi};

pub fn cpu(files: &Files, cpu: &mut Cpu) {
    const MICROSECOND: u64 = 1000;
    let values = files.pairs("cpu", "cpu.stat");
    let value = |name: &str| values.get(name).copied().unwrap_or(0);
    let time = |name: &str| value(name).saturating_mul(MICROSECOND);
    cpu.usage.total = time("usage_usec");
    cpu.usage.user = time("user_usec");
    cpu.usage.kernel = time("system_usec");
    cpu.throttling.periods = value("nr_periods");
    cpu.throttling.throttled_periods = value("nr_throttled");
    cpu.throttling.throttled_time = time("throttled_usec");
    cpu.psi = pressure(&files.text("cpu", "cpu.pressure"));
}

pub fn memory(files: &Files, memory: &mut Memory) {
    let entry = |kind: &str| {
        let file = |what: &str| format!("memory.{kind}{what}");
        MemoryEntry {
            limit: limit(&files.text("memory", &file("max"))),
            usage: files.number("memory", &file("current")),
            max: files.number("memory", &file("peak")),
            failcnt: 0,
        }
    };
    memory.raw = files.pairs("memory", "memory.stat");
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    memory.usage = entry("");
    // The entry of v1 is of both together.
    let swap = entry("swap.");
    memory.swap = MemoryEntry {
        limit: if swap.limit == u64::MAX { u64::MAX } else { swap.limit.saturating_add(memory.usage.limit) },
        usage: swap.usage + memory.usage.usage,
        max: 0,
        failcnt: 0,
    };
    memory.psi = pressure(&files.text("memory", "memory.pressure"));
}

/// No limit is the largest number; no such file, 0.
fn limit(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or(0),
    }
}

pub fn blkio(files: &Files, blkio: &mut Blkio) {
    for line in files.text("io", "io.stat").lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match name {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.to_string(), value: value.parse().unwrap_or(0) });
        }
    }
    blkio.psi = pressure(&files.text("io", "io.pressure"));
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same of `full`.
pub(super) fn pressure(text: &str) -> Option<Psi> {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let kind: &mut Pressure = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            match name {
                "avg10" => kind.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => kind.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => kind.avg300 = value.parse().unwrap_or(0.0),
                "total" => kind.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    (!text.is_empty()).then_some(psi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_by_name() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=2.00 total=5\n";
        let some = Pressure { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 77 };
        let full = Pressure { avg300: 2.0, total: 5, ..Pressure::default() };
        assert_eq!(pressure(text), Some(Psi { some, full }));
        assert_eq!(pressure(""), None);
    }

    /// Files of one container; of those that are not there, nothing is said.
    #[test]
    fn files_of_v2_become_entries_of_v1() {
        use rspawn_proto::ids::{HostPath, Text};
        use rspawn_proto::record::CgroupDir;
        let directory = std::env::temp_dir().join(format!("rspawn-stats-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for (name, text) in [
            (
                "cpu.stat",
                "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 2\nthrottled_usec 7\n",
            ),
            ("memory.current", "1000\n"),
            ("memory.max", "5000\n"),
            ("memory.swap.current", "200\n"),
            ("memory.swap.max", "3000\n"),
            ("memory.stat", "anon 400\nfile 600\n"),
            ("memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\n"),
            ("pids.current", "6\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=5 dios=0\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.events", "max 9\n"),
        ] {
            std::fs::write(directory.join(name), text).unwrap();
        }
        let path = HostPath::new(directory.to_str().unwrap()).unwrap();
        let files = Files::open(&[CgroupDir { hierarchy: Text::new("").unwrap(), path, shared: false }]);
        // It holds them open.
        std::fs::remove_dir_all(&directory).unwrap();
        let shown = serde_json::to_value(super::super::read(&files)).unwrap();
        let entry = |op: &str, value: u64| match value {
            0 => serde_json::json!({"major": 8, "op": op}),
            value => serde_json::json!({"major": 8, "op": op, "value": value}),
        };
        assert_eq!(
            shown["cpu"],
            serde_json::json!({"usage": {"total": 30_000, "user": 20_000, "kernel": 10_000},
                "throttling": {"periods": 4, "throttledPeriods": 2, "throttledTime": 7000}})
        );
        assert_eq!(
            shown["memory"],
            serde_json::json!({"cache": 600, "raw": {"anon": 400, "file": 600},
                "usage": {"limit": 5000, "usage": 1000, "failcnt": 0},
                "swap": {"limit": 8000, "usage": 1200, "failcnt": 0},
                "kernel": {"limit": 0, "failcnt": 0}, "kernelTCP": {"limit": 0, "failcnt": 0}})
        );
        assert_eq!(shown["pids"], serde_json::json!({"current": 6}));
        assert_eq!(
            shown["blkio"]["ioServiceBytesRecursive"],
            serde_json::json!([entry("Read", 4096), entry("Write", 0)])
        );
        assert_eq!(shown["blkio"]["ioServicedRecursive"], serde_json::json!([entry("Read", 1), entry("Write", 0)]));
        assert_eq!(shown["hugetlb"], serde_json::json!({"2MB": {"usage": 2_097_152, "failcnt": 9}}));
        assert_eq!(super::super::oom(&files), (1, false));
    }

    #[test]
    fn limits() {
        assert_eq!([limit("max\n"), limit("4096\n"), limit("")], [u64::MAX, 4096, 0]);
    }
}
