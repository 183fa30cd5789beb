//! What systemd is told of limits, by its own names for them.
use rspawn_proto::ids::Text;
use rspawn_proto::plan::{UnitProperty, UnitValue};

use super::number_list::bit_mask;
use super::resources::Write;
use crate::prelude::*;
use crate::units;

/// What systemd knows of the values that are written to the files of cgroup v2, by its own names for them. Of two for
/// one name, the later; lists of devices are put together.
pub fn limits(writes: &[Write]) -> Vec<UnitProperty> {
    let mut limits: Vec<UnitProperty> = Vec::new();
    let choices = writes.iter().flat_map(|write| &write.choices);
    let lines = choices.flat_map(|choice| choice.values.iter().map(|value| (choice.file.as_str(), value.as_str())));
    for (name, value) in lines.flat_map(|(file, line)| translate(file, line)) {
        let known = limits.iter_mut().find(|limit| limit.name.as_str() == name);
        match (known, value) {
            (Some(UnitProperty { value: UnitValue::Devices(all), .. }), UnitValue::Devices(more)) => all.extend(more),
            (Some(known), value) => known.value = value,
            (None, value) => limits.extend(property(name, value)),
        }
    }
    limits
}

/// One line for one file. A value that systemd would not take is left to the file.
fn translate(file: &str, line: &str) -> Vec<(&'static str, UnitValue)> {
    let one = |name, value: Option<UnitValue>| value.map(|value| (name, value)).into_iter().collect();
    let from = |least: u64| amount(line).filter(|amount| *amount >= least).map(UnitValue::Uint64);
    match file {
        "memory.max" => one("MemoryMax", from(1)),
        "memory.high" => one("MemoryHigh", from(1)),
        "memory.low" => one("MemoryLow", from(0)),
        "memory.min" => one("MemoryMin", from(0)),
        "memory.swap.max" => one("MemorySwapMax", from(0)),
        "pids.max" => one("TasksMax", from(1)),
        "cpu.weight" => one("CPUWeight", from(1)),
        // systemd's word for it since version 252.
        "cpu.idle" if line == "1" => one("CPUWeight", Some(UnitValue::Uint64(0))),
        "cpu.max" => quota(line),
        "cpuset.cpus" => one("AllowedCPUs", mask(line).map(UnitValue::Bytes)),
        "cpuset.mems" => one("AllowedMemoryNodes", mask(line).map(UnitValue::Bytes)),
        "io.weight" => match line.strip_prefix("default ").unwrap_or(line).split_once(' ') {
            None => one("IOWeight", amount(line.trim_start_matches("default ")).map(UnitValue::Uint64)),
            Some((device, weight)) => one("IODeviceWeight", devices(device, weight)),
        },
        "io.max" => {
            let (device, rates) = line.split_once(' ').unwrap_or_default();
            let rate = |word: &str| {
                let (kind, rate) = word.split_once('=')?;
                let name = match kind {
                    "rbps" => "IOReadBandwidthMax",
                    "wbps" => "IOWriteBandwidthMax",
                    "riops" => "IOReadIOPSMax",
                    "wiops" => "IOWriteIOPSMax",
                    _ => return None,
                };
                Some((name, devices(device, rate)?))
            };
            rates.split(' ').filter_map(rate).collect()
        }
        _ => Vec::new(),
    }
}

/// An amount as the kernel reads it: a number, perhaps with a unit, or `max`.
fn amount(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(INFINITY),
        text => text.parse().ok().or_else(|| u64::try_from(units::memory_size(text).ok()?).ok()),
    }
}

/// `QUOTA PERIOD` of cpu.max. systemd keeps a quota in whole percents of a second, so that it is rounded up.
fn quota(line: &str) -> Vec<(&'static str, UnitValue)> {
    const SECOND: u128 = 1_000_000;
    const PERCENT: u128 = SECOND / 100;
    let (quota, period) = line.split_once(' ').unwrap_or((line, "100000"));
    let (Some(quota), Some(period)) = (amount(quota), amount(period).filter(|period| *period > 0)) else {
        return Vec::new();
    };
    let per_second = match quota {
        INFINITY => INFINITY,
        quota => {
            let exact = u128::from(quota) * SECOND / u128::from(period);
            u64::try_from(exact.next_multiple_of(PERCENT)).unwrap_or(INFINITY)
        }
    };
    vec![("CPUQuotaPerSecUSec", UnitValue::Uint64(per_second)), ("CPUQuotaPeriodUSec", UnitValue::Uint64(period))]
}

/// `0-2,7` as bits, the lowest first.
fn mask(list: &str) -> Option<Vec<u8>> {
    const MOST: usize = 8192;
    let mut mask: Vec<u8> = bit_mask(list, MOST)?.into_iter().flat_map(u64::to_le_bytes).collect();
    mask.truncate(mask.iter().rposition(|byte| *byte != 0)? + 1);
    Some(mask)
}

/// A number for the device `MAJOR:MINOR`, which systemd finds by a path.
fn devices(device: &str, value: &str) -> Option<UnitValue> {
    let is_device = device.split(':').filter(|part| part.parse::<u32>().is_ok()).count() == 2;
    let path = Text::new(format!("/dev/block/{device}")).ok().filter(|_| is_device)?;
    Some(UnitValue::Devices(vec![(path, amount(value)?)]))
}

/// A property, if its name is none of ours to get wrong.
pub fn property(name: &str, value: UnitValue) -> Option<UnitProperty> {
    Some(UnitProperty { name: Text::new(name).ok()?, value })
}

/// No limit, to systemd.
const INFINITY: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::super::resources::Choice;
    use super::*;

    fn told(lines: &[(&str, &str)]) -> Vec<(String, UnitValue)> {
        let write = |(file, line): &(&str, &str)| Write {
            pointer: String::new(),
            hierarchy: 0,
            choices: vec![Choice { file: file.to_string(), values: vec![line.to_string()] }],
            needed: true,
        };
        let writes: Vec<Write> = lines.iter().map(write).collect();
        limits(&writes).into_iter().map(|limit| (limit.name.to_string(), limit.value)).collect()
    }

    #[test]
    fn limits_have_systemds_names() {
        let number = |name: &str, number| (name.to_string(), UnitValue::Uint64(number));
        let bytes = |name: &str, bytes: &[u8]| (name.to_string(), UnitValue::Bytes(bytes.to_vec()));
        let devices = |name: &str, list: &[(&str, u64)]| {
            let list = list.iter().map(|(path, number)| (Text::new(*path).unwrap(), *number)).collect();
            (name.to_string(), UnitValue::Devices(list))
        };
        for (lines, expected) in [
            (vec![("memory.max", "max")], vec![number("MemoryMax", INFINITY)]),
            (vec![("memory.max", "max"), ("memory.max", "4096")], vec![number("MemoryMax", 4096)]),
            (vec![("memory.max", "1G")], vec![number("MemoryMax", 1 << 30)]),
            (vec![("memory.max", "0"), ("pids.max", "0")], vec![]),
            (vec![("memory.swap.max", "0")], vec![number("MemorySwapMax", 0)]),
            (vec![("pids.max", "20")], vec![number("TasksMax", 20)]),
            (vec![("cpu.idle", "1")], vec![number("CPUWeight", 0)]),
            (vec![("cpu.idle", "0"), ("cpu.weight", "39")], vec![number("CPUWeight", 39)]),
            (
                vec![("cpu.max", "50000 100000")],
                vec![number("CPUQuotaPerSecUSec", 500_000), number("CPUQuotaPeriodUSec", 100_000)],
            ),
            // 12.34 % of a second.
            (
                vec![("cpu.max", "1234 10000")],
                vec![number("CPUQuotaPerSecUSec", 130_000), number("CPUQuotaPeriodUSec", 10_000)],
            ),
            (
                vec![("cpu.max", "max 100000")],
                vec![number("CPUQuotaPerSecUSec", INFINITY), number("CPUQuotaPeriodUSec", 100_000)],
            ),
            (vec![("cpuset.cpus", "0-2, 9")], vec![bytes("AllowedCPUs", &[7, 2])]),
            (vec![("cpuset.mems", "0")], vec![bytes("AllowedMemoryNodes", &[1])]),
            (vec![("cpuset.cpus", "0-999999")], vec![]),
            (vec![("io.bfq.weight", "20"), ("io.weight", "102")], vec![number("IOWeight", 102)]),
            (vec![("io.weight", "default 7")], vec![number("IOWeight", 7)]),
            (vec![("io.weight", "8:0 50")], vec![devices("IODeviceWeight", &[("/dev/block/8:0", 50)])]),
            (
                vec![("io.max", "8:0 rbps=5 wiops=max"), ("io.max", "8:16 rbps=6")],
                vec![
                    devices("IOReadBandwidthMax", &[("/dev/block/8:0", 5), ("/dev/block/8:16", 6)]),
                    devices("IOWriteIOPSMax", &[("/dev/block/8:0", INFINITY)]),
                ],
            ),
            (vec![("io.max", "../../x rbps=5"), ("hugetlb.2MB.max", "0"), ("memory.max", "x")], vec![]),
        ] {
            assert_eq!(told(&lines), expected, "{lines:?}");
        }
    }
}
