//! `blockIO`. Weights have a file of each I/O scheduler's: BFQ's, or that of another.
use super::settings::{ControllerLocation, Settings};
use crate::oci::resources::{BlockIo, ThrottleDevice};
use crate::prelude::*;

const NO_LEAF: &str = "cgroup v2 has no weights of leaves";

pub fn plan(settings: &mut Settings, io: &BlockIo) {
    let throttles = throttles(io);
    let fields = [
        ("blockIO/weight", set(io.weight).is_some()),
        ("blockIO/leafWeight", set(io.leaf_weight).is_some()),
        ("blockIO/weightDevice", !io.weight_device.is_empty()),
    ];
    let limits = throttles.iter().map(|throttle| (throttle.field, !throttle.devices.is_empty()));
    let Some((first, _)) = fields.into_iter().chain(limits).find(|(_, given)| *given) else { return };
    match settings.home(first, "blkio", "io") {
        Some(home @ ControllerLocation::V1(_)) => v1(settings, home, io),
        Some(home @ ControllerLocation::V2(_)) => v2(settings, home, io),
        None => {}
    }
}

fn set(weight: Option<u16>) -> Option<u16> {
    weight.filter(|weight| *weight != 0)
}

struct Throttle<'a> {
    field: &'static str,
    v1: &'static str,
    v2: &'static str,
    devices: &'a [ThrottleDevice],
}

fn throttles(io: &BlockIo) -> [Throttle<'_>; 4] {
    let throttle = |field, v1, v2, devices| Throttle { field, v1, v2, devices };
    [
        throttle(
            "blockIO/throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps", &io.throttle_read_bps_device,
        ),
        throttle(
            "blockIO/throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps", &io.throttle_write_bps_device,
        ),
        throttle(
            "blockIO/throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops", &io.throttle_read_iops_device,
        ),
        throttle(
            "blockIO/throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops",
            &io.throttle_write_iops_device,
        ),
    ]
}

fn v1(settings: &mut Settings, home: ControllerLocation, io: &BlockIo) {
    let named = |names: [&str; 2], value: String| names.map(|name| (name.to_string(), value.clone()));
    if let Some(weight) = set(io.weight) {
        settings.choose(home, "blockIO/weight", named(["blkio.bfq.weight", "blkio.weight"], weight.to_string()));
    }
    if let Some(weight) = set(io.leaf_weight) {
        settings.set(home, "blockIO/leafWeight", "blkio.leaf_weight", weight);
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let line = |weight: u16| format!("{}:{} {weight}", device.major, device.minor);
        if let Some(weight) = set(device.weight) {
            let files = ["blkio.bfq.weight_device", "blkio.weight_device"];
            settings.choose(home, &format!("blockIO/weightDevice/{index}/weight"), named(files, line(weight)));
        }
        if let Some(weight) = set(device.leaf_weight) {
            let field = format!("blockIO/weightDevice/{index}/leafWeight");
            settings.set(home, &field, "blkio.leaf_weight_device", line(weight));
        }
    }
    for throttle in throttles(io) {
        for (index, ThrottleDevice { major, minor, rate }) in throttle.devices.iter().enumerate() {
            let field = format!("{}/{index}", throttle.field);
            settings.set(home, &field, throttle.v1, format!("{major}:{minor} {rate}"));
        }
    }
}

fn v2(settings: &mut Settings, home: ControllerLocation, io: &BlockIo) {
    if set(io.leaf_weight).is_some() {
        settings.problem("blockIO/leafWeight", NO_LEAF);
    }
    if let Some(weight) = set(io.weight) {
        weigh(settings, home, "blockIO/weight", "", weight);
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let field = |name: &str| format!("blockIO/weightDevice/{index}/{name}");
        if set(device.leaf_weight).is_some() {
            settings.problem(&field("leafWeight"), NO_LEAF);
        }
        if let Some(weight) = set(device.weight) {
            let device = format!("{}:{} ", device.major, device.minor);
            weigh(settings, home, &field("weight"), &device, weight);
        }
    }
    for throttle in throttles(io) {
        for (index, ThrottleDevice { major, minor, rate }) in throttle.devices.iter().enumerate() {
            // To v1, 0 means no limit.
            let rate = if *rate == 0 { "max".to_string() } else { rate.to_string() };
            let field = format!("{}/{index}", throttle.field);
            settings.set(home, &field, "io.max", format!("{major}:{minor} {}={rate}", throttle.v2));
        }
    }
}

/// A weight for BFQ, or that of another scheduler, whose scale is longer.
fn weigh(settings: &mut Settings, home: ControllerLocation, field: &str, device: &str, weight: u16) {
    if !(10..=1000).contains(&weight) {
        settings.problem(field, format!("{weight} is not from 10 to 1000"));
        return;
    }
    let choices = [("io.bfq.weight", u32::from(weight)), ("io.weight", longer(weight))];
    settings.choose(home, field, choices.map(|(file, weight)| (file.to_string(), format!("{device}{weight}"))));
}

/// 10 to 1000 on the scale from 1 to 10000, linearly, as runc and crun convert it.
pub fn longer(weight: u16) -> u32 {
    1 + (u32::from(weight) - 10) * 9999 / 990
}
