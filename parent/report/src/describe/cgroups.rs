//! Words for what is set of cgroups, and of systemd's units.
use rspawn_proto::ids::{HostPath, RelPath};
use rspawn_proto::plan::{CgroupSetting, DeviceAccess, NewResctrl, NodeKind, UnitProperty, UnitValue, access};

pub fn unit_properties(properties: &[UnitProperty]) -> String {
    let amount = |number: u64| if number == u64::MAX { "infinity".to_string() } else { number.to_string() };
    let value = |value: &UnitValue| match value {
        UnitValue::Text(text) => text.to_string(),
        UnitValue::Flag(flag) => if *flag { "yes" } else { "no" }.into(),
        UnitValue::Int32(number) => number.to_string(),
        UnitValue::Uint32(number) => number.to_string(),
        UnitValue::Int64(number) => number.to_string(),
        UnitValue::Uint64(number) => amount(*number),
        UnitValue::Texts(texts) => texts.iter().map(|text| text.as_str()).collect::<Vec<_>>().join(" "),
        UnitValue::Devices(devices) => {
            devices.iter().map(|(path, number)| format!("{path} {}", amount(*number))).collect::<Vec<_>>().join(", ")
        }
        // A mask, the lowest bits first.
        UnitValue::Bytes(bytes) => {
            let digits: String = bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect();
            format!("0x{digits}")
        }
    };
    let pairs: Vec<String> =
        properties.iter().map(|property| format!("{}={}", property.name, value(&property.value))).collect();
    pairs.join("; ")
}

pub fn resctrl(mount: &HostPath, group: &RelPath, new: Option<&NewResctrl>) -> String {
    let verb = if new.is_some() { "make" } else { "use" };
    let lines: Vec<&str> = new.iter().flat_map(|new| new.schemata.as_str().lines()).collect();
    let schemata = if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ")) };
    format!("{verb} the resctrl group {mount}{}{schemata}", group.absolute())
}

pub fn cgroup_setting(setting: &CgroupSetting) -> String {
    let values: Vec<&str> = setting.values.iter().map(|value| value.as_str().trim_end()).collect();
    format!("{} = {}", setting.file, values.join("; "))
}

pub fn device_access(rule: &DeviceAccess) -> String {
    let verb = if rule.allow { "" } else { "not " };
    let kind = match rule.kind {
        Some(NodeKind::Block) => 'b',
        Some(_) => 'c',
        None => 'a',
    };
    let number = |number: Option<u32>| number.map_or("*".to_string(), |number| number.to_string());
    let letters = [(access::READ, 'r'), (access::WRITE, 'w'), (access::MKNOD, 'm')];
    let letters: String = letters.iter().filter(|(bit, _)| rule.access & bit != 0).map(|(_, letter)| letter).collect();
    format!("{verb}{kind} {}:{} {letters}", number(rule.major), number(rule.minor))
}
