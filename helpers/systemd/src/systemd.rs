//! What is asked of systemd (org.freedesktop.systemd1(5)).
use rspawn_proto::unit::{ScopeJob, UnitProperty, UnitValue};
use rspawn_sys::Fd;
use zbus::{OwnedObjectPath, Variant};

use crate::bus::{Bus, Fault, Target};

const MANAGER: Target = Target {
    service: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// systemd's own words are part of the error.
pub fn carry_out(bus: Fd, job: &ScopeJob) -> Result<(), String> {
    let unit = job.unit.as_str();
    let mut bus = Bus::begin(bus).map_err(|fault| explain("the bus", fault))?;
    let properties = job.properties.iter().map(|UnitProperty { name, value }| (name.as_str(), variant(value)));
    let mut properties: Vec<(&str, Variant)> = properties.collect();
    let Some(pid) = job.pid else {
        // Until the machine's next start: the scope does not live longer.
        let runtime = true;
        let set = bus.call(&MANAGER, "SetUnitProperties", &(unit, runtime, properties));
        return set.map(drop).map_err(|fault| explain("systemd", fault));
    };
    properties.push(("PIDs", Variant::from(vec![pid as u32])));
    start(&mut bus, unit, properties)
}

fn start(bus: &mut Bus, unit: &str, properties: Vec<(&str, Variant)>) -> Result<(), String> {
    let say = |fault| explain("systemd", fault);
    bus.listen(&MANAGER, "JobRemoved").map_err(|fault| explain("the bus", fault))?;
    let others: Vec<(&str, Vec<(&str, Variant)>)> = Vec::new();
    // An error rather than the end of another unit.
    let arguments = (unit, "fail", properties, others);
    let mut answer = bus.call(&MANAGER, "StartTransientUnit", &arguments);
    if is_there(&answer) {
        // It may be the rest of one that failed.
        let _ = bus.call(&MANAGER, "ResetFailedUnit", &(unit,));
        answer = bus.call(&MANAGER, "StartTransientUnit", &arguments);
    }
    if is_there(&answer) {
        return Err(format!("systemd has a unit {unit} already: another container's, or not rspawn's"));
    }
    let (job,): (OwnedObjectPath,) = answer.and_then(|answer| answer.body()).map_err(say)?;
    loop {
        let incoming = bus.next().map_err(say)?;
        if !incoming.is_signal("JobRemoved") {
            continue;
        }
        let (_, removed, _, result): (u32, OwnedObjectPath, String, String) = incoming.body().map_err(say)?;
        if removed == job {
            return if result == "done" { Ok(()) } else { Err(unsuccessful(unit, &result)) };
        }
    }
}

fn is_there<T>(answer: &Result<T, Fault>) -> bool {
    matches!(answer, Err(Fault::Refused { name, .. }) if name == "org.freedesktop.systemd1.UnitExists")
}

fn unsuccessful(unit: &str, result: &str) -> String {
    format!("systemd did not start {unit}: its job ended as {result:?}; `journalctl --unit={unit}` may say why")
}

fn explain(who: &str, fault: Fault) -> String {
    match fault {
        Fault::Refused { name, words } => format!("{who} refuses: {words} ({name})"),
        Fault::Broken(reason) => format!("{who} cannot be reached: {reason}"),
    }
}

fn variant(value: &UnitValue) -> Variant<'_> {
    match value {
        UnitValue::Text(text) => Variant::from(text.as_str()),
        UnitValue::Flag(flag) => Variant::from(*flag),
        UnitValue::Int32(number) => Variant::from(*number),
        UnitValue::Uint32(number) => Variant::from(*number),
        UnitValue::Int64(number) => Variant::from(*number),
        UnitValue::Uint64(number) => Variant::from(*number),
        UnitValue::Texts(texts) => Variant::from(texts.iter().map(|text| text.as_str()).collect::<Vec<&str>>()),
        UnitValue::Devices(devices) => {
            Variant::from(devices.iter().map(|(path, number)| (path.as_str(), *number)).collect::<Vec<(&str, u64)>>())
        }
        UnitValue::Bytes(bytes) => Variant::from(bytes.clone()),
    }
}
