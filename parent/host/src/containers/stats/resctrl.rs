//! What the resctrl group of a container says: its class of service, and what it uses. In the form of `runc events`.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use rspawn_proto::record::CgroupDir;
use serde::Serialize;

use super::held_file::{readable, whole};
use crate::containers::cgroups::is_resctrl;

#[derive(Debug, Default, PartialEq, Serialize)]
pub struct IntelRdt {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub l3_cache_info: BTreeMap<&'static str, Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub l3_cache_schema: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub mem_bw_info: BTreeMap<&'static str, Value>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema_root: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mem_bw_schema: String,
    /// Bytes, of each L3 cache.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mbm_stats: Vec<BTreeMap<&'static str, Value>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cmt_stats: Vec<BTreeMap<&'static str, Value>>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Value {
    Number(u64),
    Text(String),
}

type Named = Vec<(&'static str, File)>;

/// The files, opened while they can be.
#[derive(Default)]
pub struct Files {
    l3: Named,
    bandwidth: Named,
    root: Option<File>,
    own: Option<File>,
    /// Of each L3 cache: traffic to memory, and how much of the cache is used.
    traffic: Vec<Named>,
    occupancy: Vec<Named>,
}

const L3: [&str; 3] = ["cbm_mask", "min_cbm_bits", "num_closids"];
const BANDWIDTH: [&str; 4] = ["bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids"];
const TRAFFIC: [&str; 2] = ["mbm_total_bytes", "mbm_local_bytes"];
const OCCUPANCY: [&str; 1] = ["llc_occupancy"];

impl Files {
    pub fn open(cgroups: &[CgroupDir]) -> Self {
        let mut groups = cgroups.iter().filter(|cgroup| is_resctrl(cgroup));
        let Some(class) = groups.next() else { return Self::default() };
        // The group that watches the container, if there is one, counts it alone.
        let watching = groups.next().unwrap_or(class);
        let class = Path::new(class.path.as_str());
        let Some(root) = class.ancestors().find(|above| above.join("info").is_dir()) else { return Self::default() };
        let one = |directory: &Path, name: &str| readable(&directory.join(name).to_string_lossy());
        let all = |directory: &Path, names: &[&'static str]| -> Named {
            names.iter().filter_map(|name| Some((*name, one(directory, name)?))).collect()
        };
        let entries = fs::read_dir(format!("{}/mon_data", watching.path)).into_iter().flatten().flatten();
        let mut caches: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        caches.sort();
        let of_each = |names: &[&'static str]| -> Vec<Named> {
            caches.iter().map(|cache| all(cache, names)).filter(|files| !files.is_empty()).collect()
        };
        Self {
            l3: all(&root.join("info/L3"), &L3),
            bandwidth: all(&root.join("info/MB"), &BANDWIDTH),
            root: one(root, "schemata"),
            own: one(class, "schemata"),
            traffic: of_each(&TRAFFIC),
            occupancy: of_each(&OCCUPANCY),
        }
    }
}

/// What the files say now.
pub fn read(files: &Files) -> IntelRdt {
    let text = |file: &File| whole(file).unwrap_or_default().trim().to_string();
    // A mask is text, and so is it to runc.
    let value = |(name, file): &(&'static str, File)| match text(file) {
        text if *name == "cbm_mask" => (*name, Value::Text(text)),
        text => (*name, Value::Number(text.parse().unwrap_or(0))),
    };
    let values = |files: &Named| files.iter().map(value).collect();
    let line = |file: &Option<File>, resource: &str| {
        let schemata = file.as_ref().map(text).unwrap_or_default();
        let line = schemata.lines().map(str::trim).find(|line| line.starts_with(resource));
        line.unwrap_or_default().to_string()
    };
    IntelRdt {
        l3_cache_info: values(&files.l3),
        l3_cache_schema_root: line(&files.root, "L3:"),
        l3_cache_schema: line(&files.own, "L3:"),
        mem_bw_info: values(&files.bandwidth),
        mem_bw_schema_root: line(&files.root, "MB:"),
        mem_bw_schema: line(&files.own, "MB:"),
        mbm_stats: files.traffic.iter().map(values).collect(),
        cmt_stats: files.occupancy.iter().map(values).collect(),
    }
}

#[cfg(test)]
mod tests {
    use rspawn_proto::ids::{HostPath, Text};
    use rspawn_proto::record::RESCTRL;

    use super::*;

    #[test]
    fn what_a_group_says() {
        let root = std::env::temp_dir().join(format!("rspawn-resctrl-{}", std::process::id()));
        for (name, text) in [
            ("info/L3/cbm_mask", "fffff\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("schemata", "    MB:0=100\n    L3:0=fffff\n"),
            ("a/schemata", "    MB:0= 50\n    L3:0=000ff\n"),
            ("a/mon_data/mon_L3_00/llc_occupancy", "1\n"),
            ("a/mon_groups/id/mon_data/mon_L3_01/llc_occupancy", "7\n"),
            ("a/mon_groups/id/mon_data/mon_L3_00/llc_occupancy", "4096\n"),
            ("a/mon_groups/id/mon_data/mon_L3_00/mbm_total_bytes", "Unavailable\n"),
        ] {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let group = |name: &str| CgroupDir {
            hierarchy: Text::new(RESCTRL).unwrap(),
            path: HostPath::new(root.join(name).to_str().unwrap()).unwrap(),
            shared: true,
        };
        let said = |groups: &[CgroupDir]| serde_json::to_value(read(&Files::open(groups))).unwrap();
        let expected = serde_json::json!({
            "l3_cache_info": {"cbm_mask": "fffff", "num_closids": 16},
            "l3_cache_schema_root": "L3:0=fffff",
            "l3_cache_schema": "L3:0=000ff",
            "mem_bw_info": {"min_bandwidth": 10},
            "mem_bw_schema_root": "MB:0=100",
            "mem_bw_schema": "MB:0= 50",
            "mbm_stats": [{"mbm_total_bytes": 0}],
            "cmt_stats": [{"llc_occupancy": 4096}, {"llc_occupancy": 7}],
        });
        assert_eq!(said(&[group("a"), group("a/mon_groups/id")]), expected);
        assert_eq!(said(&[group("a")])["cmt_stats"], serde_json::json!([{"llc_occupancy": 1}]));
        assert_eq!(said(&[]), serde_json::json!({}));
        fs::remove_dir_all(root).unwrap();
    }
}
