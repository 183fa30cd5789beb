//! Words for the properties of systemd's units, as `systemctl show` has them.
use rspawn_proto::plan::{UnitProperty, UnitValue};

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
